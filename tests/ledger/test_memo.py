"""A forward that repeats the one before is not derived anew; one that leaves it at any call is, and loses nothing."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import skipgrad as sg
from skipgrad.ledger import memo
from skipgrad.ledger.memo_tape import MemoTape
from skipgrad.ledger.tape import kind_of


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many calls were taken from a memo, and how many were derived."""
    counts = {"repeated": 0, "derived": 0}
    foretold, remember = MemoTape._foretold, MemoTape._remember

    def told(self: Any, *args: Any) -> bool:
        ok = foretold(self, *args)
        counts["repeated"] += ok
        return ok

    def remembered(self: Any, *args: Any) -> None:
        counts["derived"] += 1
        remember(self, *args)

    monkeypatch.setattr(MemoTape, "_foretold", told)
    monkeypatch.setattr(MemoTape, "_remember", remembered)
    return counts


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The key of each forward that was recorded, derived from its nodes whatever the memo said."""
    keys: list[Any] = []
    kind = sg.ledger.forwards.Forwards.kind  # type: ignore[attr-defined]

    def told(self: Any, tape: Any, args: Any, kwargs: Any) -> Any:
        tape._catch_up()
        found = kind(self, tape, args, kwargs)
        read = sorted(found[0].plan.sized() & tape.squares.keys())
        edges = sorted(tape._by_edge.values())
        keys.append((tape.key(), dict(tape.trace.calls), read, dict(tape._uses), edges))
        return found

    monkeypatch.setattr(sg.ledger.forwards.Forwards, "kind", told)  # type: ignore[attr-defined]
    return keys


class Bottle(nn.Module):
    """Convolutions, norms with buffers, activations in place, and an add in place."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        out = self.two(torch.relu_(self.norm(self.one(x))))
        out += x
        return torch.nn.functional.relu(out, inplace=True)


class Attention(nn.Module):
    """Slices, several results of one call, a module's own mask, and a dropout of 0, which returns its argument."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)
        self.drop = nn.Dropout(0.0)
        self.register_buffer("mask", torch.ones(4, 4).tril().bool())

    def forward(self, x: Tensor) -> Tensor:
        many, length, _ = x.size()
        q, k, v = self.qkv(self.norm(x)).view(many, length, 3, 8).unbind(2)
        scores = (q @ k.transpose(1, 2)).masked_fill(~self.mask[:length, :length], -1e9)
        return x + self.drop(self.out(scores.softmax(-1) @ v))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolutions": (lambda: nn.Sequential(Bottle(), Bottle()), (2, 4, 5, 5)),
    "attention": (lambda: nn.Sequential(Attention(), Attention()), (2, 4, 8)),
}


def trained(net: nn.Module, batches: list[Tensor]) -> tuple[list[Any], list[str]]:
    """The rows of a training watched at every step, as numbers, and the notes."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with sg.watch(net, optimizer=optimizer, budget=None) as ledger:
        for x in batches:
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
    return [(r.step, r.skip, r.skip_norm, r.branch_norm, r.x_rms, r.branch_rms) for r in ledger.rows()], ledger.notes


@pytest.mark.parametrize("name", NETS)
def test_a_repeated_forward_is_not_derived_anew(name: str, counted: dict[str, int], traces: list[Any]) -> None:
    make, shape = NETS[name]
    torch.manual_seed(0)
    trained(make(), [torch.randn(shape) for _ in range(4)])
    assert traces[1:] == [traces[0]] * 3
    assert counted["repeated"] > 0.8 * 3 / 4 * (counted["repeated"] + counted["derived"])


@pytest.mark.parametrize("name", NETS)
def test_rows_are_those_of_a_watch_without_a_memory(
    name: str, counted: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    make, shape = NETS[name]
    torch.manual_seed(0)
    batches = [torch.randn(many, *shape[1:]) for many in (2, 2, 3, 2, 1, 3)]
    net = make()
    state = {k: v.clone() for k, v in net.state_dict().items()}
    with_memory = trained(net, batches)
    assert counted["repeated"]
    net.load_state_dict(state)
    monkeypatch.setattr(sg.ledger.forwards.Forwards, "memo", lambda *_: None)  # type: ignore[attr-defined]
    counted["repeated"] = 0
    assert trained(net, batches) == with_memory
    assert not counted["repeated"]
    assert len(with_memory[0]) >= len(batches)


class Turns(nn.Module):
    """Makes, of a list of choices, a forward of its own; each choice is one of several ways to do the same thing."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.scale = nn.Parameter(torch.ones(6))
        self.register_buffer("shift", torch.zeros(6))
        self.choices: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        for choice in self.choices:
            layer = self.layers[choice % 3]
            match choice // 3:
                case 0:
                    x = x + layer(x)
                case 1:
                    x = torch.add(layer(x), x, alpha=2)
                case 2:
                    x = layer(x * self.scale + self.shift)
                case 3:
                    first, second = x.chunk(2, -1)
                    x = torch.cat([first, second + layer(x)[:, :3]], -1)
                case 4:
                    kept = x.clone()
                    kept[:, 0] += 1.0
                    x = x + layer(kept)
                case 5:
                    x = x + torch.relu_(layer(x))
                case 6:
                    x = x + layer(torch.stack([row * self.scale for row in x]))
                case 7:
                    first, second = torch.max(layer(x), -1, keepdim=True)
                    x = x + first * (second > 2)
                case _:
                    x = torch.nn.functional.dropout(x, 0.0) + layer(x).view_as(x)
        return x


@pytest.mark.parametrize("seed", range(16))
def test_a_forward_that_leaves_the_one_before_is_recorded_as_if_there_were_none(
    seed: int, counted: dict[str, int], traces: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = random.Random(seed)
    routes = [[drawn.randrange(27) for _ in range(4)]]
    for _ in range(5):  # each changes a call or two of the one before
        route = list(routes[-1])
        route[drawn.randrange(len(route))] = drawn.randrange(27)
        if drawn.random() < 0.3:
            route.insert(drawn.randrange(len(route) + 1), drawn.randrange(27))
        routes += [route, route]
    torch.manual_seed(seed)
    net = Turns().double()
    batches = [torch.randn(2, 6, dtype=torch.float64) for _ in routes]

    def run() -> list[Any]:
        with sg.watch(net, budget=None) as ledger:
            for x, net.choices in zip(batches, routes, strict=True):
                net.zero_grad()
                net(x).square().sum().backward()
        rows = [(r.step, r.skip, r.skip_norm, r.branch_norm, r.cosine, r.x_rms, r.branch_rms) for r in ledger.rows()]
        return [*rows, *ledger.notes, ledger.account]

    remembered = run()
    with_memory = list(traces)
    assert counted["repeated"]
    traces.clear()
    monkeypatch.setattr(sg.ledger.forwards.Forwards, "memo", lambda *_: None)  # type: ignore[attr-defined]
    assert run() == remembered
    assert [t[0] for t in traces] == [t[0] for t in with_memory]
    assert [t[1:] for t in traces] == [t[1:] for t in with_memory]


class Sources(nn.Module):
    """Calls the same functions on the same layers in the same order, whichever value each adds."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(5, 5) for _ in range(4))
        self.choices: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        values = [x * 1.5]
        for layer, source in zip(self.layers, self.choices, strict=True):
            values.append(values[source] + layer(values[-1]))
        return values[-1]


class Some(nn.Module):
    """Takes as many of the rows as are positive."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.scale = nn.Linear(7, 7), nn.Linear(7, 7), nn.Parameter(torch.ones(7))

    def forward(self, x: Tensor) -> Tensor:
        some = x[x[:, 0] > 0] * self.scale
        return some + self.two(self.one(some).relu())


def test_which_value_a_call_takes_tells_it_from_another(counted: dict[str, int], traces: list[Any]) -> None:
    torch.manual_seed(0)
    net = Sources().double()
    routes = [[0, 0, 1, 2], [0, 0, 1, 1], [0, 1, 1, 1], [0, 1, 1, 3], [0, 0, 1, 2]]
    with sg.watch(net, budget=None):
        for net.choices in routes:
            net.zero_grad()
            net(torch.randn(3, 5, dtype=torch.float64)).square().sum().backward()
    assert counted["repeated"]
    assert traces[0] == traces[-1]
    assert len({repr(t) for t in traces}) == len(routes) - 1


def test_the_shape_of_a_result_may_depend_on_values(counted: dict[str, int], traces: list[Any]) -> None:
    torch.manual_seed(0)
    net = Some()
    batches = [torch.randn(6, 7) for _ in range(4)]
    for k, x in enumerate(batches):
        x[:, 0] = torch.tensor([1.0] * (k + 2) + [-1.0] * (4 - k))
    rows, _ = trained(net, batches)
    assert counted["repeated"]
    shapes = [{node[7] for node in key[0] if node[1] == "matrix"} for key in traces]
    assert [s.pop()[0] for s in shapes] == [2, 3, 4, 5]
    assert len(rows) == len(batches)


class Meets(nn.Module):
    """Whether the two are added, so that the value before is a fork, or multiplied, is said from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
        self.added = False

    def forward(self, x: Tensor) -> Tensor:
        h = self.one(x)
        s, f = h * 1.0, self.two(h + 1.0)  # h itself is kept by nobody but this function
        return s + f if self.added else s * f


def test_a_size_that_was_of_no_use_is_read_when_it_is(counted: dict[str, int]) -> None:
    """Where products are taken nobody reads the size of h, and the sum comes after all calls that take h."""
    torch.manual_seed(0)
    net = Meets().double()
    batches = [torch.randn(3, 6, dtype=torch.float64) for _ in range(6)]
    with sg.watch(net, budget=None) as ledger:
        for x, net.added in zip(batches, (False, False, True, True, False, True), strict=True):
            net(x).square().sum().backward()
    assert counted["repeated"]
    assert [r.step for r in ledger.rows()] == [2, 3, 5]
    for row in ledger.rows():
        h = net.one(batches[row.step]).detach()
        assert row.x_rms == pytest.approx(float(h.square().mean().sqrt()), rel=1e-12)
        assert row.branch_rms == pytest.approx(float(net.two(h + 1.0).detach().square().mean().sqrt()), rel=1e-12)


def test_a_repeated_forward_makes_few_objects_for_the_garbage_collector() -> None:
    """Each brings its next run nearer, which may take a quarter of a second."""
    net = nn.Sequential(*[Attention() for _ in range(8)])
    x = torch.randn(2, 4, 8)

    def made() -> int:
        gc.collect()
        before = gc.get_count()[0]
        out = net(x)
        many = gc.get_count()[0] - before
        out.sum().backward()
        return many

    with sg.watch(net, budget=None) as ledger:
        made()
        gc.disable()
        try:
            watched = made()
        finally:
            gc.enable()
        calls = len(next(iter(ledger._forwards._memos.values())).events)
    assert calls > 100
    assert watched < 6 * calls


class Rows(nn.Module):
    """Goes through a tensor row by row, and asks for its size, device and type on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(5, 5), nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        rows = [self.two(row.to(x.dtype)) for row in x]
        return x + torch.stack(rows).view(x.size()).to(x.device)


def test_an_iterator_is_read_once(counted: dict[str, int], traces: list[Any]) -> None:
    torch.manual_seed(0)
    rows, notes = trained(Rows(), [torch.randn(3, 5) for _ in range(3)])
    assert not notes
    assert [r[:2] for r in rows] == [(0, "root"), (1, "root"), (2, "root")]
    assert all(r[3] > 0 for r in rows)
    assert traces[0] == traces[1] == traces[2]
    assert counted["repeated"]


def test_what_is_compared_holds_no_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A memo lives as long as the watch: what it held, the memory between two steps would hold."""
    kept: list[Any] = []
    made = memo.Memo

    def keep(*args: Any) -> Any:
        kept.append(made(*args))
        return kept[-1]

    monkeypatch.setattr(sg.ledger.forwards, "Memo", keep)  # type: ignore[attr-defined]
    torch.manual_seed(0)
    trained(Attention(), [torch.randn(2, 4, 8)])
    assert kept

    def tensors(value: Any) -> int:
        if isinstance(value, (tuple, list)):
            return sum(map(tensors, value))
        return isinstance(value, Tensor)

    for event in kept[0].events:
        fields = [getattr(event, name) for name in event.__dataclass_fields__]
        assert tensors(fields) == 0, event
        assert all(kind_of(n) for n in event.nodes)
