"""D19: few blocks do the work: the others can be dropped, and the net is smaller and faster."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from functools import partial
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.core import Recipe
from skipgrad.core.units import number
from skipgrad.finder import find
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle
from skipgrad.lab.claims.d1_degradation import EPOCHS, WIDTH, recipe, workload_of
from skipgrad.lab.claims.d3_lesion import blocks_of_one_shape
from skipgrad.lab.picture import dots
from skipgrad.lab.registry import CLAIMS
from skipgrad.lab.trained import error, samples, trained
from skipgrad.ledger import watch
from skipgrad.models import Workload
from skipgrad.probes.lesion import dropped, lesions
from skipgrad.probes.lesion.lesion import error_percent

NET, QUICK_EPOCHS = "resnet56", 6
SHARE, ALLOWED, FITS, RUNS = 1 / 3, 3.0, 5.0, 9
WAYS = ("lesion", "ledger", "cosine")


def without(model: nn.Module, paths: Sequence[str]) -> nn.Module:
    """A copy whose blocks at some paths pass on what they are given: fewer weights, fewer ops."""
    twin = copy.deepcopy(model)
    for path in paths:
        home, _, name = path.rpartition(".")
        twin.get_submodule(home)._modules[name] = nn.Identity()
    return twin


def one_by_one(model: nn.Module, x: Tensor, y: Tensor, paths: Sequence[str], count: int) -> list[str]:
    """Blocks to drop, chosen one after another: each time the one without which what is left has the least loss.

    Ranked once by single lesions they do worse together than apart, as blocks stand in for one another.
    """
    gone: list[str] = []
    for _ in range(count):
        left = [p for p in paths if p not in gone]
        twin = without(model, gone)
        found = lesions(twin, find(twin, x[:2]), (x,), lambda out: float(F.cross_entropy(out, y)), only=left)
        gone.append(min(left, key=lambda p: found.by_skip[p]))
    return gone


def by_ledger(model: nn.Module, x: Tensor, y: Tensor, paths: Sequence[str]) -> dict[str, float]:
    """‖B‖/‖S‖ of each block in one backward: how much of the gradient goes through its branch."""
    graph = find(model, x[:2])
    with watch(model, graph, budget=None) as ledger:
        F.cross_entropy(model(x), y).backward()
    model.zero_grad()
    return {r.skip: r.branch_norm / max(r.skip_norm, 1e-30) for r in ledger.measurements().skips if r.skip in paths}


def by_cosine(model: nn.Module, x: Tensor, paths: Sequence[str]) -> dict[str, float]:
    """1 − cosine of a block's input and output: ShortGPT's block influence."""
    found: dict[str, float] = {}

    def look(path: str, _module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        found[path] = 1 - float(F.cosine_similarity(args[0].flatten(1), out.flatten(1)).mean())

    handles = [model.get_submodule(p).register_forward_hook(partial(look, p)) for p in paths]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return found


def latency(models: Sequence[nn.Module], x: Tensor) -> list[float]:
    """Median seconds of a forward of each, taken in turns."""
    times: list[list[float]] = [[] for _ in models]
    with torch.no_grad():
        for _ in range(RUNS + 1):
            for i, model in enumerate(models):
                start = time.perf_counter()
                model(x)
                times[i].append(time.perf_counter() - start)
    return [median(t[1:]) for t in times]


def one_seed(setting: Setting) -> Values:
    """A third of the blocks dropped, chosen in three ways and at random."""
    epochs = QUICK_EPOCHS if setting.quick else EPOCHS
    setting.say(f"training {NET}")
    workload = workload_of(NET)
    model, _ = trained(workload, recipe(workload, setting.seed, epochs), setting)
    x, y = samples(workload, 512)
    paths = blocks_of_one_shape(model)
    base = error(model, x, y)
    setting.say("ranking blocks")
    found = lesions(model, find(model, x[:2]), (x,), error_percent(y), only=paths)
    count = round(SHARE * len(paths))
    ledger, cosine = by_ledger(model, x, y, paths), by_cosine(model, x, paths)
    ranks = {
        "lesion": one_by_one(model, x, y, paths, count),
        "ledger": sorted(paths, key=ledger.__getitem__)[:count],
        "cosine": sorted(paths, key=cosine.__getitem__)[:count],
    }
    values: Values = {"error %": base, "worst single block, error %": max(found.by_skip.values())}
    pruned = model
    for way, chosen in ranks.items():
        twin = without(model, chosen)
        values[f"error without a third, by {way} %"] = error(twin, x, y)
        pruned = twin if way == "lesion" else pruned
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(setting.seed)).tolist()
    values["error without a third, at random %"] = error(without(model, [paths[i] for i in order[:count]]), x, y)
    whole, less = latency([model, pruned], x)
    weights = [sum(p.numel() for p in m.parameters()) for m in (model, pruned)]
    return values | {
        "time, share": less / whole,
        "weights, share": weights[1] / weights[0],
        "blocks dropped": float(count),
    }


def judge(values: Values) -> bool | None:
    """A third of the blocks, chosen by lesions, costs little; and the net is smaller."""
    if values["error %"] > FITS:
        return None
    return values["error without a third, by lesion %"] - values["error %"] <= ALLOWED and values["weights, share"] < 1


def sentence(figures: Sequence[Figure]) -> str:
    """Errors and sizes."""
    at = {n: number(middle(figures, n)) for n in figures[0].values}
    told = ", ".join(f"{at[f'error without a third, by {way} %']} % by {way}" for way in WAYS)
    return (
        f"Without {at['blocks dropped']} of its 27 blocks ResNet-56 errs by {told} and "
        f"{at['error without a third, at random %']} % "
        f"at random (whole: {at['error %']} %), at {at['weights, share']} of its weights and {at['time, share']} "
        "of its time."
    )


def on_model(workload: Workload, setting: Setting) -> Values:
    """A user's net: the add skips that matter least by lesion, dropped together, after a short training."""
    setting.say("training")
    model, _ = trained(workload, Recipe(60 if setting.quick else 300, workload.batch_size, seed=setting.seed), setting)
    batch = next(workload.batches(setting.seed + 1))
    graph = find(model, *batch.args, **batch.kwargs)

    def score(out: object) -> float:
        return float(workload.loss(out, batch))

    setting.say("ranking branches")
    found = lesions(model, graph, batch.args, score)
    ranked = sorted(found.by_skip, key=lambda n: found.by_skip[n])
    count = max(1, round(SHARE * len(ranked)))
    with torch.no_grad():
        together = score(dropped(model, graph, ranked[:count], batch.args))
    return {
        "loss": found.base,
        "branches": float(len(ranked)),
        "branches dropped": float(count),
        "loss without them": together,
    } | {f"rise without {n}": found.by_skip[n] - found.base for n in ranked}


def on_model_sentence(figures: Sequence[Figure]) -> str:
    """Losses with and without."""
    at = {n: number(middle(figures, n)) for n in ("loss", "branches", "branches dropped", "loss without them")}
    return (
        f"Without the {at['branches dropped']} of its {at['branches']} branches that matter least its loss goes from "
        f"{at['loss']} to {at['loss without them']}."
    )


CLAIM = Claim(
    id="D19",
    title="Few blocks do the work",
    statement="In a deep net with skips many blocks do next to nothing; dropping those makes it smaller and faster "
    "at little "
    "loss.",
    anchor="ShortGPT drops layers 21–29 of Llama-2-7B (27 %): MMLU 45.4 → 44.0 (Men et al. 2024)",
    criterion="a third of the blocks that keep the shape, chosen one after another by lesions, costs ≤ "
    f"{ALLOWED:g} points of error",
    refutes="an error that rises with the first blocks dropped",
    setting=f"{NET} of width {WIDTH} on digits, {EPOCHS} epochs as in D1; no training afterwards; error on 512 of the "
    "training images",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: dots(
        figures,
        ["error %", *(f"error without a third, by {w} %" for w in WAYS), "error without a third, at random %"],
        "error, %",
    ),
    effect="error without a third, by lesion %",
    topic="structure",
    duration="half a minute",
    trains=True,
    on_model=on_model,
    on_model_sentence=on_model_sentence,
)
CLAIMS.register(CLAIM.id, CLAIM, rank=119)
