"""D12: the skip lets a transformer without position codes keep track of position through its layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.core import Recipe
from skipgrad.core.units import number
from skipgrad.finder import find
from skipgrad.instrument.seeding import kept_random, seed_all
from skipgrad.instrument.tensors import tensors_in
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle
from skipgrad.lab.picture import lines
from skipgrad.lab.registry import CLAIMS
from skipgrad.lab.trained import Own, trained
from skipgrad.models import Workload
from skipgrad.models.data import DATA

DEPTH, WIDTH, HEADS, CONTEXT, VOCABULARY = 6, 64, 4, 32, 128
STEPS, QUICK_STEPS, BATCH, RATE = 300, 100, 16, 1e-3
PROBE, KEPT, CONTROL = 2048, 0.15, 0.1


class Layer(nn.Module):
    """A causal attention and a feed-forward net behind a norm each, with the skip around them or without."""

    def __init__(self, skip: bool) -> None:
        super().__init__()
        self.skip = skip
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.feed = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        h = self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        x = x + h if self.skip else h
        h = self.feed(self.norm2(x))
        return x + h if self.skip else h


class NoPosition(nn.Module):
    """A causal character model without position codes: ids (N, T) → logits."""

    def __init__(self, skip: bool = True) -> None:
        super().__init__()
        self.token = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.Sequential(*(Layer(skip) for _ in range(DEPTH)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.norm(self.layers(self.token(ids))))


def probed(h: Tensor, positions: Tensor, seed: int) -> float:
    """R² on held-out rows of a linear (ridge) prediction of the position from a representation, 0 at least."""
    g = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(h), generator=g)
    half = len(h) // 2
    h, positions = h.double()[order], positions.double()[order]
    h = torch.cat([(h - h[:half].mean(0)) / (h[:half].std(0) + 1e-6), torch.ones(len(h), 1, dtype=torch.float64)], 1)
    a, b = h[:half], h[half:]
    w = torch.linalg.solve(a.T @ a + 1.0 * torch.eye(a.shape[1], dtype=torch.float64), a.T @ positions[:half])
    rest = (positions[half:] - b @ w).square().mean() / positions[half:].var()
    return max(0.0, 1 - float(rest))


def by_layer(model: NoPosition, ids: Tensor, seed: int) -> tuple[list[float], float]:
    """The probe's R² behind the embedding and each layer, and with shuffled labels behind the last."""
    held: list[Tensor] = []
    with torch.no_grad():
        h = model.token(ids)
        held.append(h)
        for layer in model.layers:
            h = layer(h)
            held.append(h)
    positions = torch.arange(ids.shape[1]).expand_as(ids).flatten()
    found = [probed(h.flatten(0, 1), positions, seed) for h in held]
    shuffled = positions[torch.randperm(len(positions), generator=torch.Generator().manual_seed(seed + 1))]
    return found, probed(held[-1].flatten(0, 1), shuffled, seed)


def one_seed(setting: Setting) -> Values:
    """Both nets trained on text, and probed."""
    text = DATA.get("text").load("text").gather(range(4000))
    ids = text[0][:, :CONTEXT].clamp(max=VOCABULARY - 1)
    x, y = ids[:, :-1], ids[:, 1:]
    values: Values = {}
    for skip, name in ((True, "with skips"), (False, "without")):
        setting.say(f"training {name}")

        def objective(out: Tensor, target: Tensor) -> Tensor:
            return F.cross_entropy(out.flatten(0, 1), target.flatten())

        own = Own(lambda skip=skip: NoPosition(skip), x, y, objective, BATCH, f"a transformer {name}", "language model")
        steps = QUICK_STEPS if setting.quick else STEPS
        model, result = trained(own, Recipe(steps, BATCH, "adam", RATE, setting.seed), setting)
        assert isinstance(model, NoPosition)
        found, control = by_layer(model, x[: PROBE // CONTEXT], setting.seed)
        values[f"loss, {name}"] = sum(p.loss for p in result.losses[-10:]) / 10
        values |= {f"R², {name} behind layer {k}": r for k, r in enumerate(found)}
        values[f"R² of shuffled labels, {name}"] = control
    values["R² gained by skips, last layer"] = (
        values[f"R², with skips behind layer {DEPTH}"] - values[f"R², without behind layer {DEPTH}"]
    )
    return values


def judge(values: Values) -> bool | None:
    """Position is there with skips, less without; and shuffled labels cannot be read."""
    if max(values["R² of shuffled labels, with skips"], values["R² of shuffled labels, without"]) > CONTROL:
        return None
    return values["R² gained by skips, last layer"] >= KEPT


def sentence(figures: Sequence[Figure]) -> str:
    """R² at the ends."""
    return (
        f"A linear probe reads the position behind the last of {DEPTH} layers with R² "
        f"{number(middle(figures, f'R², with skips behind layer {DEPTH}'))} with skips and "
        f"{number(middle(figures, f'R², without behind layer {DEPTH}'))} without (behind the embedding "
        f"{number(middle(figures, 'R², with skips behind layer 0'))}; shuffled labels "
        f"{number(middle(figures, 'R² of shuffled labels, with skips'))})."
    )


def on_model(workload: Workload, setting: Setting) -> Values:
    """A user's transformer: the probe behind every merge that is (N, T, width), after a short training."""
    model, _ = trained(workload, Recipe(60 if setting.quick else 300, workload.batch_size, seed=setting.seed), setting)
    batch = next(workload.batches(setting.seed + 1))
    graph = find(model, *batch.args, **batch.kwargs)
    owners = {s.owner: s.name for s in graph if len(s.merge_shape) == 3}
    held: dict[str, Tensor] = {}
    handles = [
        model.get_submodule(owner).register_forward_hook(
            lambda _m, _a, out, owner=owner: held.__setitem__(owner, next(tensors_in(out)))
        )
        for owner in owners
        if owner
    ]
    with torch.no_grad(), kept_random(torch.device("cpu")):
        seed_all(setting.seed)
        model(*batch.args, **batch.kwargs)
    for handle in handles:
        handle.remove()
    values: Values = {}
    for owner, h in held.items():
        if h.dim() == 3:
            positions = torch.arange(h.shape[1]).expand(h.shape[:2]).flatten()
            values[f"R² behind {owner}"] = probed(h.flatten(0, 1), positions, setting.seed)
    return values


def on_model_sentence(figures: Sequence[Figure]) -> str:
    """First and last."""
    names = list(figures[0].values)
    if not names:
        return "It has no skip whose stream is (samples, positions, features): there are no positions to read."
    first, last = names[0], names[-1]
    return (
        f"A linear probe reads the position with {first} {number(middle(figures, first))}, {last} "
        f"{number(middle(figures, last))}."
    )


CLAIM = Claim(
    id="D12",
    title="The skip keeps track of position",
    statement="A causal transformer without position codes learns where it is, and the skip carries that through "
    "the layers.",
    anchor="causal nets without position codes learn position (Haviv et al. 2022; Kazemnejad et al. 2023)",
    criterion=f"R² of a linear probe behind the last layer: with skips − without ≥ {KEPT:g}; shuffled labels ≤ "
    f"{CONTROL:g}",
    refutes="a net without skips from which position is read as well",
    setting=f"{DEPTH} layers of width {WIDTH}, {CONTEXT} characters of Python's standard library, {STEPS} steps of "
    f"{BATCH}, "
    f"Adam {RATE:g}; ridge probe, half of the rows held out",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: lines(
        figures,
        ["R², with skips behind layer ", "R², without behind layer "],
        "layers passed",
        "R² of the position, held out",
    ),
    effect="R² gained by skips, last layer",
    caution="The net without skips also learns far less in the same steps (its loss is among the figures): what it "
    "loses of "
    "the position layer by layer is seen in the nets as trained, not in two nets that predict equally well.",
    topic="structure",
    duration="half a minute",
    trains=True,
    on_model=on_model,
    on_model_sentence=on_model_sentence,
)
CLAIMS.register(CLAIM.id, CLAIM, rank=112)
