"""DistributedDataParallel and fully_shard on two processes: together they measure what one process measures."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import skipgrad as sg
from repeatable import differing, kept, not_repeatable
from skipgrad.core import MeasureError, Measurements, PathRow
from skipgrad.ledger.ranks import combined

WORLD = 2


class Block(nn.Module):
    """A pre-norm block."""

    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 33), nn.GELU(), nn.Linear(33, 16))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x)


class Net(nn.Module):
    """Two blocks between two layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.head = nn.Linear(16, 16), nn.Linear(16, 5)
        self.blocks = nn.ModuleList(Block() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 16, generator=generator), torch.randint(0, 5, (8,), generator=generator)


def trained(called: nn.Module, x: Tensor, y: Tensor, graph: Any, watched: bool = True) -> sg.Ledger:
    optimizer = torch.optim.SGD(called.parameters(), lr=0.1, momentum=0.9)
    ledger = sg.watch(called, graph, optimizer)
    if watched:
        ledger.__enter__()
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(called(x), y).backward()
        optimizer.step()
    ledger.close()
    return ledger


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    part = slice(4 * rank, 4 * rank + 4)
    x, y = (t[part] for t in data())
    out: dict[str, Any] = {}
    for kind in ("ddp", "fsdp"):
        weights, ledger = [], None
        for watched in (False, False, True, False):  # a first one is thrown away, as `repeatable.same_bits` does
            model: nn.Module = Net()
            graph = sg.find(model, x)
            if kind == "ddp":
                model = nn.parallel.DistributedDataParallel(model)
            else:
                mesh = init_device_mesh("cpu", (WORLD,))
                for block in model.blocks:  # type: ignore[union-attr]
                    fully_shard(block, mesh=mesh)
                fully_shard(model, mesh=mesh)
                if watched:
                    with sg.watch(model) as alone:
                        torch.nn.functional.cross_entropy(model(x), y).backward()
                    out["ungiven"] = alone.rows()
                    model.zero_grad()
                    try:
                        sg.watch(torch.compile(model)).__enter__()
                    except MeasureError as error:
                        out["refused"] = str(error)
            last = trained(model, x, y, graph, watched)
            ledger = last if watched else ledger
            state = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]
            weights.append(kept(state))
        assert ledger is not None
        mine, whole = ledger.measurements(), ledger.reduced()
        out[kind] = {
            "mine": (mine.skips, mine.layers, mine.notes),
            "whole": (whole.skips, whole.layers, whole.notes),
            "plain": differing(weights[1], weights[3]),
            "watched": differing(weights[1], weights[2]),
        }
    Path(folder, f"{rank}").write_bytes(pickle.dumps(out))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(process, (str(folder),), WORLD)
    return [pickle.loads(Path(folder, f"{r}").read_bytes()) for r in range(WORLD)]


@pytest.fixture(scope="module")
def single() -> Measurements:
    model = Net()
    x, y = data()
    return trained(model, x, y, sg.find(model, x)).measurements()


SKIP = ("skip_norm", "branch_norm", "total_norm", "out_norm", "x_rms", "branch_rms", "gain")
LAYER = ("out_grad_norm", "weight_norm", "weight_grad_norm", "update_norm", "stalled", "zero_grad", "weights")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_all_ranks_together_are_one_process(kind: str, answers: list[dict[str, Any]], single: Measurements) -> None:
    for rank in answers:
        skips, layers, notes = rank[kind]["whole"]
        assert notes == ()
        assert [(r.step, r.micro, r.skip) for r in skips] == [(r.step, r.micro, r.skip) for r in single.skips]
        assert [(r.step, r.layer) for r in layers] == [(r.step, r.layer) for r in single.layers]
        for a, b in zip(skips, single.skips, strict=True):
            assert a.cosine == pytest.approx(b.cosine, abs=1e-5)
            assert a.residual < 1e-5
            for column in SKIP:
                assert getattr(a, column) == pytest.approx(getattr(b, column), rel=1e-5), (a.skip, column)
        for a, b in zip(layers, single.layers, strict=True):
            for column in LAYER:
                assert getattr(a, column) == pytest.approx(getattr(b, column), rel=1e-5, abs=1e-6), (a.layer, column)


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_a_rank_measures_its_own_part(kind: str, answers: list[dict[str, Any]], single: Measurements) -> None:
    mine = [rank[kind]["mine"] for rank in answers]
    assert all(notes == () for _, _, notes in mine)
    for column in ("skip_norm", "branch_norm", "out_norm"):
        parts = [getattr(skips[0], column) for skips, _, _ in mine]
        assert parts[0] != pytest.approx(parts[1], rel=1e-3)
        # Each rank's loss is the mean over its own part: twice what its part is of the whole.
        assert sum(p**2 for p in parts) ** 0.5 / WORLD == pytest.approx(getattr(single.skips[0], column), rel=1e-5)
    weights = [[r.weights for r in layers] for _, layers, _ in mine]
    whole = [r.weights for r in single.layers]
    assert weights[0] == whole if kind == "ddp" else [a + b for a, b in zip(*weights, strict=True)] == whole


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_the_weights_are_bitwise_those_of_an_unwatched_training(kind: str, answers: list[dict[str, Any]]) -> None:
    for rank in answers:
        if rank[kind]["plain"]:
            pytest.skip(not_repeatable(kind, rank[kind]["plain"]))
    assert [rank[kind]["watched"] for rank in answers] == [[]] * WORLD


def test_a_model_cut_up_needs_no_graph_found_before(answers: list[dict[str, Any]]) -> None:
    for rank in answers:
        assert rank["ungiven"]
        assert rank["ungiven"] == list(rank["fsdp"]["mine"][0][: len(rank["ungiven"])])
        assert "fully_shard has cut up" in rank["refused"]  # a compiled one does
        assert "before fully_shard" in rank["refused"]


def test_alone_there_is_nothing_to_add_up(single: Measurements) -> None:
    model = Net()
    with sg.watch(model) as ledger, pytest.raises(MeasureError, match="no process group"):
        ledger.reduced()
    assert combined([single], True, False) == combined([single], False, True)


def test_rows_that_a_rank_lacks_are_left_out_and_said(single: Measurements) -> None:
    less = replace(single, skips=single.skips[1:])
    whole = combined([single, less], True, False)
    assert len(whole.skips) == len(less.skips)
    assert whole.notes == ("1 rows are not on every rank, and are left out",)


def test_path_spectra_of_one_ranks_batch_are_left_out_and_said(single: Measurements) -> None:
    rank = replace(single, paths=(PathRow(0, None, "odd"),))
    whole = combined([rank, single], True, False)
    assert whole.paths == ()
    assert whole.notes == ("path spectra are of one rank's own batch, and are left out",)
