"""A watch is in nobody's way: copies, pickles and exports made inside it, threads beside it, plain steps between."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import skipgrad as sg
from ledger.spawned import trains


class Block(nn.Module):
    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.f = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.f(x))


def net(seed: int = 0, many: int = 2) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 6), *(Block() for _ in range(many)))


X = torch.ones(2, 6)


def told(model: nn.Module) -> dict[str, Any]:
    """What can be seen of a module: attributes, hooks, class, state."""
    return {name: [*sorted(vars(m)), type(m).__qualname__] for name, m in model.named_modules()}


COPIES = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda m: pickle.loads(pickle.dumps(m)),
    "averaged": lambda m: torch.optim.swa_utils.AveragedModel(m).module,
    "twice": lambda m: copy.deepcopy(pickle.loads(pickle.dumps(m))),
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_made_inside_is_like_one_made_outside(how: str) -> None:
    model = net()
    outside = COPIES[how](model)
    with sg.watch(model) as ledger:
        model(X).sum().backward()
        inside = COPIES[how](model)
        inside(X).sum().backward()
        rows = len(ledger.rows())
    after = COPIES[how](model)
    assert told(inside) == told(outside) == told(after) == told(model)
    assert torch.equal(inside(X), outside(X))
    assert rows == 2  # the copy's forward left none


def test_what_is_saved_inside_loads_without_skipgrad(tmp_path: Any) -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
    with sg.watch(model):
        model(X).sum().backward()
        torch.save(model, tmp_path / "model.pt")
    code = (
        "import sys, torch; m = torch.load(sys.argv[1], weights_only=False);"
        "print(float(m(torch.ones(2, 6)).detach().sum()));"
        "assert 'skipgrad' not in sys.modules"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.pt")], capture_output=True, text=True, check=True
    )
    assert float(run.stdout) == pytest.approx(float(model(X).detach().sum()))


@pytest.mark.slow
def test_a_compiled_model_is_saved_and_copied_inside() -> None:
    torch._dynamo.reset()
    model = net()
    model.compile(backend="aot_eager")
    with sg.watch(model) as ledger:
        model(X).sum().backward()
        twin = copy.deepcopy(model)
        again = pickle.loads(pickle.dumps(model))
    assert len(ledger.rows()) == 2
    for m in (twin, again):
        assert "_compiled_call_impl" not in vars(m)
        assert torch.allclose(m(X), model(X))


def test_a_model_in_ddp_is_copied_inside() -> None:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(net())
        with sg.watch(model) as ledger:
            model(X).sum().backward()
            copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), copy.deepcopy(model.module)]
            for twin in copies:
                twin(X).sum().backward()
        assert len(ledger.rows()) == 2
        assert [told(c) for c in copies] == [told(model), told(model), told(model.module)]
        for twin in copies:
            assert torch.equal(twin(X), model(X))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
def test_a_model_is_handed_to_a_spawned_process_inside(compiled: bool) -> None:
    model = net()
    if compiled:
        torch._dynamo.reset()
        model.compile(backend="aot_eager")
    context = torch.multiprocessing.get_context("spawn")
    answers = context.Queue()
    with sg.watch(model) as ledger:
        loss = model(X).square().sum()
        loss.backward()
        want = [p.grad.tolist() for p in model.parameters() if p.grad is not None]
        model.zero_grad()
        process = context.Process(target=trains, args=(model, X, answers))
        process.start()
        told_loss, grads, more = answers.get(timeout=120)
        process.join(60)
    assert process.exitcode == 0
    assert more == []
    assert told_loss == pytest.approx(float(loss.detach()))
    for mine, its in zip(want, grads, strict=True):
        assert torch.allclose(torch.tensor(mine), torch.tensor(its))
    assert len(ledger.rows()) == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
def test_exports_inside_are_right() -> None:
    model = net()
    expected = model(X)
    with sg.watch(model) as ledger:
        for exported in (
            torch.export.export(model, (X,)).module(),
            torch.jit.trace(model, (X,)),
            torch.jit.script(copy.deepcopy(model)),
            torch.fx.symbolic_trace(model),
        ):
            assert torch.allclose(exported(X), expected)
        model(X).sum().backward()
    assert len(ledger.rows()) == 2


@pytest.mark.parametrize("many", [4])
def test_a_watched_model_called_from_several_threads(many: int) -> None:
    """Each thread has a loss of its own; every forward has its rows, and they are right."""
    model = net().double()
    losses = 25
    xs = [torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(k)) for k in range(many)]
    expected = {}
    for k, x in enumerate(xs):
        with sg.watch(copy.deepcopy(model)) as alone:
            alone._user_model(x).square().sum().backward()
        expected[k] = [(r.skip, round(r.skip_norm, 9), round(r.branch_norm, 9)) for r in alone.rows()]
    errors: list[BaseException] = []
    ready = threading.Barrier(many)

    def work(k: int) -> None:
        try:
            ready.wait()
            for _ in range(losses):
                model(xs[k]).square().sum().backward()
        except BaseException as error:  # noqa: BLE001 - shown below
            errors.append(error)

    with sg.watch(model, budget=None) as ledger:
        threads = [threading.Thread(target=work, args=(k,)) for k in range(many)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert errors == []
    account = ledger.account
    assert account.adds_up
    assert account.forwards == account.measured == many * losses
    met = [(r.skip, round(r.skip_norm, 9), round(r.branch_norm, 9)) for r in ledger.rows()]
    assert sorted(met) == sorted(row for k in expected for row in expected[k] * losses)


def test_a_find_beside_a_training_under_watch() -> None:
    model, other = net().double(), net(1, many=5)
    x = torch.randn(3, 6, dtype=torch.float64)
    stop = threading.Event()
    graphs: list[int] = []

    def finds() -> None:
        while not stop.is_set():
            graphs.append(len(sg.find(other, X)))

    thread = threading.Thread(target=finds)
    thread.start()
    try:
        with sg.watch(model, budget=None) as ledger:
            for _ in range(30):
                model(x).square().sum().backward()
    finally:
        stop.set()
        thread.join()
    assert set(graphs) == {5}
    first = [r for r in ledger.rows() if r.step == 0]
    assert [r.skip for r in ledger.rows()] == ["1", "2"] * 30
    for row in ledger.rows():
        (same,) = (r for r in first if r.skip == row.skip)
        assert row.skip_norm == pytest.approx(same.skip_norm, rel=1e-10)
    assert ledger.notes == []


def test_a_tensor_kind_that_nobody_knows_ends_the_recording_not_the_training() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            slope = torch.func.grad(lambda t: torch.tanh(t).square().sum())(x)
            nested = torch.nested.nested_tensor([x[0], x[1]])
            return x + self.f(x) + slope + torch.nested.to_padded_tensor(nested, 0.0).detach()

    torch.manual_seed(0)
    model = Odd()
    plain = copy.deepcopy(model)
    with _quiet(), sg.watch(model) as ledger:
        for _ in range(2):
            model(X).square().sum().backward()
    with _quiet():
        for _ in range(2):
            plain(X).square().sum().backward()
    assert torch.equal(model.f.weight.grad, plain.f.weight.grad)  # type: ignore[arg-type]
    account = ledger.account
    assert account.adds_up
    assert account.forwards == 2
    assert account.measured == 2 or len(ledger.notes) > 0


def _quiet() -> Any:
    import warnings

    class Quiet(warnings.catch_warnings):
        def __enter__(self) -> None:  # type: ignore[override]
            super().__enter__()
            warnings.simplefilter("ignore")

    return Quiet()


def test_hooks_of_the_users_run_once_and_on_their_own_tensors() -> None:
    model = net()
    met: list[Tensor] = []
    model[1].register_forward_hook(lambda _m, _a, out: met.append(out))
    model.register_forward_pre_hook(lambda _m, a: (a[0] * 1.0,))
    with sg.watch(model) as ledger:
        for _ in range(3):
            model(X).sum().backward()
    assert [t.device.type for t in met] == ["cpu"] * 3
    assert len(ledger.rows()) == 6


def test_an_error_in_the_forward_is_the_users_own_and_leaves_nothing() -> None:
    model = net()
    before = told(model)
    with sg.watch(model) as ledger:
        model(X).sum().backward()
        with pytest.raises(RuntimeError, match="mat1 and mat2"):
            model(torch.ones(2, 5))
        model(X).sum().backward()
    assert told(model) == before
    assert [r.step for r in ledger.rows()] == [0, 0, 1, 1]
    assert ledger.account.unmeasured == {"it raised": 1}
    assert ledger.account.adds_up
