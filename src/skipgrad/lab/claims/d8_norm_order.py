"""D8: a Pre-LN transformer trains at once, a Post-LN one wants a warm-up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.core import Recipe
from skipgrad.core.units import number
from skipgrad.instrument.seeding import kept_random, seed_all
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle
from skipgrad.lab.picture import dots
from skipgrad.lab.registry import CLAIMS
from skipgrad.models import fit
from skipgrad.race import final_loss
from skipgrad.train import settle, train_trial

DEPTHS, QUICK_DEPTHS, DRAWS = (6, 12, 24, 48), (6, 12, 24), 5
DEPTH, STEPS, QUICK_STEPS, BATCH, RATE = 12, 300, 120, 16, 1e-3
PRE_SLOPE, POST_SLOPE, POST_GAIN, PRE_GAIN = (-0.6, -0.3), -0.1, 0.4, 0.1
UNIGRAM = 3.0  # nats; the letters' frequencies alone give about 3.2


class Block(nn.Module):
    """Attention and a feed-forward net, both with Xavier weights, the norm before or behind each."""

    def __init__(self, width: int, heads: int, first: bool) -> None:
        super().__init__()
        self.first, self.heads = first, heads
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        for layer in (self.qkv, self.out, self.up, self.down):
            nn.init.xavier_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))

    def feed(self, x: Tensor) -> Tensor:
        return self.down(F.relu(self.up(x)))

    def forward(self, x: Tensor) -> Tensor:
        if self.first:
            x = x + self.attend(self.norm1(x))
            return x + self.feed(self.norm2(x))
        x = self.norm1(x + self.attend(x))
        return self.norm2(x + self.feed(x))


class Transformer(nn.Module):
    """A character model: ids (N, T) → logits (N, T, vocab), drawn as in Xiong et al."""

    def __init__(
        self, depth: int = DEPTH, first: bool = True, vocab: int = 256, context: int = 64, d_model: int = 64
    ) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(vocab, d_model), nn.Embedding(context, d_model)
        self.blocks = nn.Sequential(*(Block(d_model, 4, first) for _ in range(depth)))
        self.norm = nn.LayerNorm(d_model) if first else nn.Identity()
        self.head = nn.Linear(d_model, vocab, bias=False)
        nn.init.xavier_normal_(self.head.weight)

    def forward(self, ids: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1], device=ids.device)
        return self.head(self.norm(self.blocks(self.token(ids) + self.position(positions))))


def slope(first: bool, seed: int, depths: Sequence[int]) -> float:
    """Slope of log ‖∇W₂‖ of the last block over log depth, in nets as drawn."""
    logs = []
    with kept_random(torch.device("cpu")):
        for depth in depths:
            norms = []
            for draw in range(DRAWS):
                seed_all(1000 * seed + draw)
                model = Transformer(depth, first)
                ids = torch.randint(256, (4, 33))
                F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()
                last = model.blocks[-1]
                assert isinstance(last, Block)
                assert last.down.weight.grad is not None
                norms.append(float(last.down.weight.grad.norm()))
            logs.append((math.log(depth), math.log(mean(norms))))
    xs, ys = zip(*logs, strict=True)
    mx, my = mean(xs), mean(ys)
    return sum((x - mx) * (y - my) for x, y in logs) / sum((x - mx) ** 2 for x in xs)


def one_seed(setting: Setting) -> Values:
    """The slopes at the start, and the loss with and without warm-up."""
    values: Values = {}
    steps = QUICK_STEPS if setting.quick else STEPS
    for name, first in (("pre", True), ("post", False)):
        setting.say(f"gradients of {name}-LN")
        values[f"{name} slope"] = slope(first, setting.seed, QUICK_DEPTHS if setting.quick else DEPTHS)
        for warm in (0.0, 0.25):
            setting.say(f"training {name}-LN, {'with' if warm else 'without'} warm-up")
            workload = fit(f"{__name__}:Transformer", {"first": first}, "text", batch_size=BATCH)
            recipe = Recipe(steps, BATCH, "adam", RATE, setting.seed, warmup=warm, weight_decay=0.0)
            settle(workload, recipe, setting.threads)
            loss = final_loss(train_trial(workload, recipe, threads=setting.threads))
            values[f"{name} loss, {'warm-up' if warm else 'no warm-up'}"] = loss
        values[f"{name} gain by warm-up, nats"] = (
            values[f"{name} loss, no warm-up"] - values[f"{name} loss, warm-up"]
        )  # fmt: skip
    return values


def judge(values: Values) -> bool | None:
    """The slopes and the gains; it cannot tell while Post-LN with warm-up still guesses by how frequent letters are."""
    if values["post loss, warm-up"] > UNIGRAM:
        return None
    low, high = PRE_SLOPE
    slopes = low <= values["pre slope"] <= high and values["post slope"] > POST_SLOPE
    return (
        slopes and values["post gain by warm-up, nats"] >= POST_GAIN and values["pre gain by warm-up, nats"] <= PRE_GAIN
    )


def sentence(figures: Sequence[Figure]) -> str:
    """Slopes and gains."""
    at = {n: number(middle(figures, n)) for n in figures[0].values}
    return (
        f"The gradient of the last block goes as depth to the power {at['pre slope']} in Pre-LN and "
        f"{at['post slope']} in "
        f"Post-LN; warm-up gains Post-LN {at['post gain by warm-up, nats']} nats and Pre-LN "
        f"{at['pre gain by warm-up, nats']} ({DEPTH} layers; medians over {len(figures)} seeds)."
    )


CLAIM = Claim(
    id="D8",
    title="Pre-LN trains where Post-LN needs warm-up",
    statement="With the norm on the branch the skip stays clean and a transformer trains at full rate from the "
    "first step; "
    "with the norm behind the add its last layers get large gradients and it needs a warm-up.",
    anchor="IWSLT14 De–En, Post-LN: 8.45 BLEU without warm-up, about 34 with (Xiong et al. 2020)",
    criterion=f"slope of log‖∇W₂‖ of the last block against log depth in {list(PRE_SLOPE)} for Pre-LN and > "
    f"{POST_SLOPE:g} "
    f"for Post-LN; gain by warm-up ≥ {POST_GAIN:g} nats for Post-LN and ≤ {PRE_GAIN:g} for Pre-LN",
    refutes="a Post-LN net that trains as well without warm-up, or a Pre-LN one that does not",
    setting=f"slopes over depths {DEPTHS}, {DRAWS} draws; {DEPTH}-layer character models, {STEPS} steps of {BATCH} "
    "× 64 "
    f"characters of Python's standard library, Adam {RATE:g}",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: dots(
        figures,
        [f"{n} loss, {w}" for n in ("pre", "post") for w in ("no warm-up", "warm-up")],
        "training loss, nats",
    ),
    effect="post gain by warm-up, nats",
    topic="training",
    duration="two minutes",
    trains=True,
    not_on_model="it needs the same net with its norms in another place: the remedy `pre-norm` makes one of yours",
)
CLAIMS.register(CLAIM.id, CLAIM, rank=108)
