from dataclasses import replace

import torch

from skipgrad.lab import run_claim
from skipgrad.lab.claims import a1_gradient
from skipgrad.ledger import watch


def test_the_ledger_agrees_with_brute_force():
    verdict = run_claim("A1", seeds=[0, 1])
    assert verdict.state == "reproduced"
    assert all(f.values["skips"] == 5 and f.values["missing"] == 0 for f in verdict.figures)


def test_a_ledger_that_is_off_by_a_billionth_is_caught(monkeypatch):
    class Off:
        def __init__(self, *args, **kwargs):
            self.ledger = watch(*args, **kwargs)

        def __enter__(self):
            self.ledger.__enter__()
            return self

        def __exit__(self, *exc):
            return self.ledger.__exit__(*exc)

        def rows(self):
            return [replace(r, branch_norm=r.branch_norm * (1 + 1e-9)) for r in self.ledger.rows()]

    monkeypatch.setattr(a1_gradient, "watch", Off)
    assert run_claim("A1", seeds=[0]).state == "not reproduced"


def test_brute_force_is_the_chain_rule():
    # For y = x + F(x) the two gradients are dL/dy and Jᵀ dL/dy, J the Jacobian of F.
    torch.manual_seed(0)
    block = a1_gradient.Added(2).double().eval()
    block.brute = True
    x, g = torch.randn(1, 2, 3, 3, dtype=torch.float64), torch.randn(1, 2, 3, 3, dtype=torch.float64)
    loss = (block(x.requires_grad_()) * g).sum()
    ((short, branch),) = a1_gradient.brute_force(torch.nn.Sequential(block), loss).values()
    jacobian = torch.autograd.functional.jacobian(
        lambda z: block.conv2(torch.relu(block.conv1(block.norm(z)))), x
    ).reshape(18, 18)
    torch.testing.assert_close(short, g)
    torch.testing.assert_close(branch.flatten(), jacobian.T @ g.flatten())
