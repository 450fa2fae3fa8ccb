"""The path spectrum against brute force: every set of branches switched on and off, in nets that say where they are."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import skipgrad as sg
from probes.path_nets import Drawn, Gated, example
from skipgrad.core import BadInput, MeasureError, PathRow
from skipgrad.probes.spectrum import sampled_spectrum

NETS = ["Chain", "Nested", "Side", "Tied", "Products", "Fused", "Decoder", "Transformer", "InPlace"]


def loss_fn(out: Tensor) -> Tensor:
    return (out * torch.linspace(0.5, 1.5, out.numel(), dtype=out.dtype).reshape(out.shape)).pow(2).sum()


def gradient(twin: Gated, inputs: tuple[Tensor, ...], weights: list[float]) -> Tensor:
    """dL/d(fork) with the branches' gradients weighted, by one run and plain autograd."""
    twin.weights = weights
    loss = loss_fn(twin(*inputs))
    assert twin.fork is not None
    (g,) = torch.autograd.grad(loss, twin.fork, allow_unused=True)
    return torch.zeros_like(twin.fork) if g is None else g


def brute_force(model: Gated, inputs: tuple[Tensor, ...]) -> tuple[list[Tensor], Tensor]:
    """c_k from all 2^n sets of branches: what comes by paths that enter exactly a set, by inclusion and exclusion."""
    n, twin = model.branches, copy.deepcopy(model)
    g = [gradient(twin, inputs, [float(s >> i & 1) for i in range(n)]) for s in range(2**n)]
    for i in range(n):
        for s in range(2**n):
            if s >> i & 1:
                g[s] = g[s] - g[s ^ 1 << i]
    zero = torch.zeros_like(g[0])
    coefficients = [sum((g[s] for s in range(2**n) if s.bit_count() == k), zero) for k in range(n + 1)]
    return coefficients, gradient(twin, inputs, [1.0] * n)


def agrees(spectrum: sg.PathSpectrum, coefficients: list[Tensor], g: Tensor) -> None:
    size = float(g.norm())
    assert spectrum.residual < 1e-10
    assert spectrum.grad_norm == pytest.approx(size, rel=1e-10)
    n = len(spectrum.lengths)
    assert spectrum.lengths == tuple(range(n))
    for k, c in enumerate(coefficients):
        norm, share = (spectrum.norms[k], spectrum.shares[k]) if k < n else (0.0, 0.0)
        assert norm == pytest.approx(float(c.norm()), rel=1e-10, abs=1e-10 * size)
        assert share == pytest.approx(float((c * g).sum()) / size**2, rel=1e-10, abs=1e-10)
    assert sum(spectrum.shares) == pytest.approx(1.0, abs=1e-10)
    mean = sum(k * s for k, s in zip(spectrum.lengths, spectrum.shares, strict=True))
    assert spectrum.mean_length == pytest.approx(mean, rel=1e-10)


@pytest.mark.parametrize("name", NETS)
def test_agrees_with_brute_force(name: str) -> None:
    model, inputs = example(name)
    spectrum = sg.path_spectrum(model, sg.find(model, *inputs), inputs, loss_fn)
    assert spectrum.branches == model.branches
    agrees(spectrum, *brute_force(model, inputs))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000))
@pytest.mark.slow
def test_agrees_with_brute_force_on_random_nets(seed: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, x = Drawn(seed).double(), torch.randn(2, 5, dtype=torch.float64)
    spectrum = sg.path_spectrum(model, sg.find(model, x), (x,), loss_fn)
    assert spectrum.branches == model.branches
    agrees(spectrum, *brute_force(model, (x,)))


def test_what_a_branch_counts_for() -> None:
    model, inputs = example("Nested")
    graph = sg.find(model, *inputs)
    # The long branch, the three inside it and the one behind: five at the most. Side by side: one of each group.
    assert len(sg.path_spectrum(model, graph, inputs, loss_fn).lengths) == 6
    side, x = example("Side")
    assert len(sg.path_spectrum(side, sg.find(side, *x), x, loss_fn).lengths) == 1 + 4
    # At a fork inside the long branch all paths have entered that already: it is no choice, and does not count.
    inner = sg.path_spectrum(model, graph, inputs, loss_fn, at=graph.skips[1].name)
    assert inner.skips == tuple(s.name for s in graph.skips if s.name not in (graph.skips[0].name, "root#4"))
    assert len(inner.lengths) == 1 + 3


def test_the_rest_after_a_truncation() -> None:
    model, inputs = example("Chain")
    graph = sg.find(model, *inputs)
    whole = sg.path_spectrum(model, graph, inputs, loss_fn)
    coefficients, g = brute_force(model, inputs)
    for k in range(5):
        part = sg.path_spectrum(model, graph, inputs, loss_fn, max_length=k)
        assert part.shares == pytest.approx(whole.shares[: k + 1], rel=1e-12)
        longer = sum(coefficients[k + 1 :], torch.zeros_like(g))
        assert part.longer_norm == pytest.approx(float(longer.norm()), rel=1e-10, abs=1e-12)
        assert part.longer_share == pytest.approx(float((longer * g).sum() / g.norm() ** 2), rel=1e-10, abs=1e-12)
        assert part.residual < 1e-12
        assert part.mean_length == pytest.approx(whole.mean_length, rel=1e-12)
        assert part.complete == (k == 4)
        assert (part.unsigned_mean_length is None) == (k < 4)


def test_a_chain_of_linear_maps_is_a_binomial() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(3, 3)
            self.f = nn.ModuleList(nn.Linear(3, 3, bias=False) for _ in range(6))
            for f in self.f:
                nn.init.eye_(f.weight).mul_(0.5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for f in self.f:
                x = x + f(x)
            return x

    with torch.no_grad():
        model = Half().double()
    x = torch.ones(2, 3, dtype=torch.float64)
    spectrum = sg.path_spectrum(model, sg.find(model, x), (x,), torch.sum)
    expected = [math.comb(6, k) * 0.5**k / 1.5**6 for k in range(7)]
    assert spectrum.shares == pytest.approx(expected, rel=1e-12)
    assert spectrum.mean_length == pytest.approx(2.0)  # six times a third
    assert spectrum.unsigned_mean_length == pytest.approx(2.0)
    assert spectrum.cancellation == pytest.approx(1.0)


def test_paths_that_cancel() -> None:
    model, inputs = example("Tied")
    spectrum = sg.path_spectrum(model, sg.find(model, *inputs), inputs, loss_fn)
    coefficients, g = brute_force(model, inputs)
    sizes = [float(c.norm()) for c in coefficients]
    assert spectrum.cancellation == pytest.approx(sum(sizes) / float(g.norm()), rel=1e-10)
    assert spectrum.cancellation > 1.01
    unsigned = sum(k * s for k, s in enumerate(sizes)) / sum(sizes)
    assert spectrum.unsigned_mean_length == pytest.approx(unsigned, rel=1e-10)
    assert spectrum.unsigned_mean_length != pytest.approx(spectrum.mean_length, rel=1e-3)


def test_concat_skips_are_named_and_not_split() -> None:
    model, inputs = example("Decoder")
    graph = sg.find(model, *inputs)
    spectrum = sg.path_spectrum(model, graph, inputs, loss_fn)
    assert spectrum.unsplit == tuple(s.name for s in graph.skips if s.kind == "concat") != ()
    assert spectrum.skips == tuple(s.name for s in graph.skips if s.kind == "add")


def test_the_fork_may_be_the_models_input() -> None:
    class Net(Gated):
        branches = 2

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            if self.weights is not None:
                x = self.noted(x.clone().requires_grad_())
            x = x + self.gate(0, torch.tanh(self.a(x)))
            return x + self.gate(1, torch.tanh(self.b(x)))

    model, x = Net().double(), torch.randn(2, 4, dtype=torch.float64)
    spectrum = sg.path_spectrum(model, sg.find(model, x), (x,), loss_fn)
    agrees(spectrum, *brute_force(model, (x,)))
    assert not x.requires_grad


def test_inputs_by_name_and_watched_models() -> None:
    model, (x, bias) = example("Decoder")
    graph = sg.find(model, x=x, bias=bias)
    plain = sg.path_spectrum(model, graph, {"x": x, "bias": bias}, loss_fn)
    with sg.watch(model, graph) as ledger:
        assert sg.path_spectrum(model, graph, {"x": x, "bias": bias}, loss_fn) == plain
        loss_fn(model(x=x, bias=bias)).backward()
    assert len(ledger.rows()) == len(graph)
    assert ledger.notes == []


def test_a_ledger_takes_spectra_to_diagnose_and_to_write(tmp_path: Path) -> None:
    model, inputs = example("Chain")
    graph = sg.find(model, *inputs)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with sg.watch(model, graph, optimizer=optimizer, run=tmp_path / "run.db") as ledger:
        first = sg.path_spectrum(model, graph, inputs, loss_fn)
        ledger.spectrum(first)
        for _ in range(2):
            optimizer.zero_grad()
            loss_fn(model(*inputs)).backward()
            optimizer.step()
        last = sg.path_spectrum(model, graph, inputs, loss_fn)
        ledger.spectrum(first)
        ledger.spectrum(last)  # of several at one step the last counts
    rows = (PathRow(0, first), PathRow(2, last))
    assert ledger.measurements().paths == rows
    assert sg.read_run(tmp_path / "run.db").paths == {0: rows}
    assert len(ledger.rows()) == 2 * len(graph)
    with pytest.raises(BadInput, match="a float"):
        ledger.spectrum(0.5)  # type: ignore[arg-type]


def test_the_longest_path() -> None:
    model, inputs = example("Chain")
    graph = sg.find(model, *inputs)
    whole = sg.path_spectrum(model, graph, inputs, loss_fn)
    assert whole.longest == whole.lengths[-1] == 4
    assert sg.path_spectrum(model, graph, inputs, loss_fn, max_length=1).longest == whole.branches


def test_a_graph_from_json_or_of_the_other_mode_is_traced_again() -> None:
    model, inputs = example("Chain")
    graph = sg.find(model, *inputs)
    spectrum = sg.path_spectrum(model, graph, inputs, loss_fn)
    assert sg.path_spectrum(model, sg.SkipGraph.from_json(graph.to_json()), inputs, loss_fn) == spectrum
    other = sg.path_spectrum(model.eval(), graph, inputs, loss_fn)
    assert other.residual < 1e-10
    assert other.shares != pytest.approx(spectrum.shares, rel=1e-3)  # other statistics, another net


def test_only_the_skips_of_the_graph_count() -> None:
    model, inputs = example("Chain")
    graph = sg.find(model, *inputs)
    kept = sg.SkipGraph(graph.skips[:2], found=graph.found)
    spectrum = sg.path_spectrum(model, kept, inputs, loss_fn)
    assert spectrum.skips == tuple(s.name for s in graph.skips[:2])
    assert len(spectrum.lengths) == 3
    assert spectrum.residual < 1e-10


def test_dropout_and_everything_else_is_left_as_it_was() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.a, self.b = (nn.Linear(4, 4) for _ in range(3))
            self.norm, self.drop, self.seen = nn.BatchNorm1d(4), nn.Dropout(0.4), []

        def forward(self, x: Tensor) -> Tensor:
            self.seen.append(1)
            self.last = x
            x = self.stem(x)
            x = x + self.drop(self.norm(self.a(x)))
            return x + self.drop(self.norm(self.b(x)))

    torch.manual_seed(0)
    model, x = Net().double(), torch.randn(5, 4, dtype=torch.float64)
    graph = sg.find(model, x)
    live = loss_fn(model(x))  # a graph that holds on to the statistics' buffers
    model.seen.clear()
    state, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    keys = {n: set(m.__dict__) for n, m in model.named_modules()}
    spectrum = sg.path_spectrum(model, graph, (x,), loss_fn)
    assert spectrum.residual < 1e-10
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert model.seen == []
    assert model.last is x
    assert {n: set(m.__dict__) for n, m in model.named_modules()} == keys
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    live.backward()


def test_checkpointed_blocks() -> None:
    from torch.utils.checkpoint import checkpoint

    class Net(nn.Module):
        reentrant = False
        kept = False

        def __init__(self) -> None:
            super().__init__()
            self.stem, self.a, self.b = (nn.Linear(4, 4) for _ in range(3))

        def block(self, x: Tensor) -> Tensor:
            x = x + torch.tanh(self.a(x))
            return x + torch.tanh(self.b(x))

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.block(x) if self.kept else checkpoint(self.block, x, use_reentrant=self.reentrant)

    model, x = Net().double(), torch.randn(2, 4, dtype=torch.float64)
    spectrum = sg.path_spectrum(model, sg.find(model, x), (x,), loss_fn)
    model.kept = True
    plain = sg.path_spectrum(model, sg.find(model, x), (x,), loss_fn)
    assert spectrum.shares == pytest.approx(plain.shares, rel=1e-12)
    model.kept, model.reentrant = False, True
    with pytest.raises(MeasureError, match="gradients off"):
        sg.path_spectrum(model, sg.find(model, x), (x,), loss_fn)


def test_float32() -> None:
    model, inputs = example("Chain")
    wide = sg.path_spectrum(model, sg.find(model, *inputs), inputs, loss_fn)
    model, inputs = model.float(), tuple(t.float() for t in inputs)
    narrow = sg.path_spectrum(model, sg.find(model, *inputs), inputs, loss_fn)
    assert (narrow.dtype, wide.dtype) == ("float32", "float64")
    assert narrow.residual < 1e-6
    assert narrow.shares == pytest.approx(wide.shares, abs=1e-4)


def test_real_models() -> None:
    torchvision = pytest.importorskip("torchvision")
    model, x = torchvision.models.resnet18(num_classes=5).double(), torch.randn(2, 3, 32, 32).double()
    y = torch.tensor([1, 3])
    spectrum = sg.path_spectrum(model, sg.find(model, x), (x,), lambda out: F.cross_entropy(out, y))
    assert len(spectrum.lengths) == 9
    assert spectrum.residual < 1e-10
    assert spectrum.at == "layer1.0"
    late = sg.path_spectrum(model, sg.find(model, x), (x,), lambda out: F.cross_entropy(out, y), at="layer4.1")
    assert len(late.lengths) == 2


def test_to_json_and_back() -> None:
    model, inputs = example("Chain")
    spectrum = sg.path_spectrum(model, sg.find(model, *inputs), inputs, loss_fn)
    assert sg.PathSpectrum.from_json(spectrum.to_json()) == spectrum
    assert json.loads(spectrum.to_json())["unsigned_mean_length"] == spectrum.unsigned_mean_length
    for text in ("[]", "{", '{"at": "a"}'):
        with pytest.raises(BadInput, match="PathSpectrum"):
            sg.PathSpectrum.from_json(text)


# -- the sampled estimate --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Chain", "Nested", "Transformer", "InPlace"])
def test_the_sampled_estimate_agrees_within_its_standard_error(name: str) -> None:
    model, inputs = example(name)
    graph = sg.find(model, *inputs)
    exact = sg.path_spectrum(model, graph, inputs, loss_fn)
    sampled = sampled_spectrum(model, graph, inputs, loss_fn, samples=60)
    assert sampled.lengths == exact.lengths
    for k in exact.lengths:
        assert abs(sampled.shares[k] - exact.shares[k]) <= 4 * sampled.share_errors[k] + 1e-9
        # Single paths' norms add up to at least the norm of their sum.
        assert sampled.norms[k] + 4 * sampled.norm_errors[k] + 1e-9 >= exact.norms[k] / exact.grad_norm
        if sampled.paths[k] == 1:
            assert sampled.shares[k] == pytest.approx(exact.shares[k], rel=1e-9)
            assert sampled.share_errors[k] == pytest.approx(0.0, abs=1e-12)


def test_how_many_paths_there_are() -> None:
    model, inputs = example("Chain")
    chain = sampled_spectrum(model, sg.find(model, *inputs), inputs, loss_fn, samples=2)
    assert chain.paths == (1, 4, 6, 4, 1)
    # A long skip around three, and one behind: (1 + t (1 + t)^3) (1 + t).
    nested, inputs = example("Nested")
    assert sampled_spectrum(nested, sg.find(nested, *inputs), inputs, loss_fn, samples=2).paths == (1, 2, 4, 6, 4, 1)


def test_the_sample_depends_on_its_seed_alone() -> None:
    model, inputs = example("Chain")
    graph = sg.find(model, *inputs)
    first = sampled_spectrum(model, graph, inputs, loss_fn, samples=3, seed=1)
    assert sampled_spectrum(model, graph, inputs, loss_fn, samples=3, seed=1) == first
    assert sampled_spectrum(model, graph, inputs, loss_fn, samples=3, seed=2) != first


@pytest.mark.parametrize("name", ["Products", "Decoder"])
def test_no_sample_where_a_path_is_no_single_line(name: str) -> None:
    model, inputs = example(name)
    with pytest.raises(MeasureError, match="splits other than at an add skip"):
        sampled_spectrum(model, sg.find(model, *inputs), inputs, loss_fn)


# -- refusals --------------------------------------------------------------------------------------


class Small(nn.Module):
    """Two blocks, as plain as can be."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = (nn.Linear(4, 4) for _ in range(3))
        self.detach = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        f = torch.tanh(self.a(x))
        x = x + (f.detach() if self.detach else f)
        return x + torch.tanh(self.b(x))


def small() -> tuple[Small, Tensor, sg.SkipGraph]:
    model, x = Small(), torch.randn(2, 4)
    return model, x, sg.find(model, x)


def test_a_frozen_net_is_refused() -> None:
    model, x, graph = small()
    model.requires_grad_(False)
    # Its input can still carry the gradient; token ids cannot.
    assert sg.path_spectrum(model, graph, (x,), loss_fn).residual < 1e-6
    tokens, ids = example("Transformer")
    with pytest.raises(MeasureError, match="requires no gradient"):
        sg.path_spectrum(tokens.requires_grad_(False), sg.find(tokens, *ids), ids, loss_fn)


def test_a_loss_of_the_wrong_kind() -> None:
    model, x, graph = small()
    with pytest.raises(BadInput, match="loss_fn"):
        sg.path_spectrum(model, graph, (x,), lambda out: out)
    with pytest.raises(MeasureError, match="requires no gradient"):
        sg.path_spectrum(model, graph, (x,), lambda out: out.detach().sum())


def test_nothing_to_measure_is_a_record_that_says_why() -> None:
    """A training loop that asks at the wrong moment goes on; wrong arguments still raise."""
    model, x, graph = small()
    zero = sg.path_spectrum(model, graph, (x,), lambda out: (out * 0).sum())
    infinite = sg.path_spectrum(model, graph, (x,), lambda out: (out * float("inf")).sum())
    apart = sg.path_spectrum(model, graph, (x,), lambda out: model.b.weight.sum())
    for spectrum, reason in ((zero, "is zero"), (infinite, "not finite"), (apart, "does not depend")):
        assert not spectrum.measured
        assert reason in spectrum.reason
        assert (spectrum.lengths, spectrum.grad_norm, spectrum.cancellation) == ((), 0, 0)
        assert sg.PathSpectrum.from_json(spectrum.to_json()) == spectrum
    assert sg.path_spectrum(model, graph, (x,), loss_fn).measured


def test_a_head_that_starts_at_zero_is_named() -> None:
    torch.manual_seed(0)
    model, x = Sum(), torch.randn(2, 4)
    nn.init.zeros_(model.head.weight)
    assert "last layer (head) starts at zero" in sg.path_spectrum(model, sg.find(model, x), (x,), loss_fn).reason


class Sum(nn.Module):
    """One residual block and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x + self.f(x).tanh())


def test_bad_arguments() -> None:
    model, x, graph = small()
    for bad in (-1, 1.5):
        with pytest.raises(BadInput, match="max_length"):
            sg.path_spectrum(model, graph, (x,), loss_fn, max_length=bad)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="nope"):
        sg.path_spectrum(model, graph, (x,), loss_fn, at="nope")
    with pytest.raises(BadInput, match="tuple"):
        sg.path_spectrum(model, graph, x, loss_fn)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="as graph"):
        sg.path_spectrum(model, None, (x,), loss_fn)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="as model"):
        sg.path_spectrum(loss_fn, graph, (x,), loss_fn)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="samples"):
        sampled_spectrum(model, graph, (x,), loss_fn, samples=1)


def test_a_net_without_add_skips_or_of_another_model() -> None:
    plain, x = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)), torch.randn(2, 4)
    assert "no add skips" in sg.path_spectrum(plain, sg.find(plain, x), (x,), loss_fn).reason
    with pytest.raises(BadInput, match="as model"):
        sg.path_spectrum(loss_fn, sg.find(plain, x), (x,), loss_fn)  # type: ignore[arg-type]
    other, inputs = example("Chain")
    stripped = sg.SkipGraph.from_json(sg.find(other, *inputs).to_json())
    with pytest.raises(MeasureError, match="other skips"):
        sg.path_spectrum(plain, stripped, (x,), loss_fn)


def test_a_forward_that_does_something_else_is_traced_again() -> None:
    x = torch.randn(2, 4)

    class Longer(Small):
        twice = False

        def forward(self, x: Tensor) -> Tensor:
            x = super().forward(x)
            return x + torch.tanh(self.a(x)) if self.twice else x

    longer = Longer()
    graph = sg.find(longer, x)
    longer.twice = True
    spectrum = sg.path_spectrum(longer, graph, (x,), loss_fn)
    assert any("traced anew" in n for n in spectrum.notes)
    assert len(spectrum.lengths) == 4
    assert spectrum.residual < 1e-5


def test_a_forward_that_differs_at_each_run_is_refused() -> None:
    runs = iter(range(100))

    class Fickle(Small):
        def forward(self, x: Tensor) -> Tensor:
            x = super().forward(x)
            for _ in range(next(runs) % 5):
                x = x + torch.tanh(self.a(x))
            return x

    model, x = Fickle(), torch.randn(2, 4)
    with pytest.raises(MeasureError, match="other calls at each run"):
        sg.path_spectrum(model, sg.find(model, x), (x,), loss_fn)


def test_a_compiled_model_runs_as_it_was_written() -> None:
    model, x, graph = small()
    plain = sg.path_spectrum(model, graph, (x,), loss_fn)
    assert sg.path_spectrum(torch.compile(model), graph, (x,), loss_fn) == plain  # type: ignore[arg-type]


def test_a_branch_without_a_gradient_is_named() -> None:
    model, x, _ = small()
    model.detach = True
    graph = sg.find(model, x)
    spectrum = sg.path_spectrum(model, graph, (x,), loss_fn)
    assert any("no gradient comes back" in n for n in spectrum.notes)
    assert len(spectrum.lengths) == 2
    assert spectrum.residual < 1e-6


def test_data_parallel_is_refused() -> None:
    model, x, graph = small()
    with pytest.raises(MeasureError, match="DataParallel"):
        sg.path_spectrum(nn.DataParallel(model), graph, (x,), loss_fn)


def test_calls_in_another_order_are_noticed() -> None:
    class Swapped(Small):
        swap = False

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for first in (not self.swap, self.swap):
                x = x + torch.tanh(self.a(x)) if first else x - torch.tanh(self.b(x))
            return x

    model, x = Swapped(), torch.randn(2, 4)
    graph = sg.find(model, x)
    assert sg.path_spectrum(model, graph, (x,), loss_fn).notes == ()
    model.swap = True
    spectrum = sg.path_spectrum(model, graph, (x,), loss_fn)
    assert any("traced anew" in n for n in spectrum.notes)
    assert len(spectrum.lengths) == 3


def test_calls_that_do_nothing_are_no_other_calls() -> None:
    class Casts(Small):
        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for f in (self.a, self.b):
                # The first changes nothing, and is no node of the trace; the second is the fork's first use.
                x = x + torch.tanh(f(x.to(x.dtype).to(torch.float32).to(x.dtype)))
            return x

    model, x = Casts().double(), torch.randn(2, 4, dtype=torch.float64)
    spectrum = sg.path_spectrum(model, sg.find(model, x), (x,), loss_fn)
    assert spectrum.notes == ()
    assert len(spectrum.lengths) == 3
