"""Runs as `skipgrad check` writes them, without the training: sick, healthy, long, U-shaped and cut short."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from skipgrad.core import (
    Cure,
    Finding,
    Layer,
    LayerRow,
    LossPoint,
    PathRow,
    PathSpectrum,
    Run,
    Skip,
    SkipGraph,
    SkipRow,
    Trial,
)

STEPS = 200
MEASURED = tuple(range(0, STEPS, 10))
META = {
    "model": "skipgrad:plain56",
    "data": "digits",
    "fit": [
        "digits are 8×8 grey images; the stem takes 1 channel instead of 3",
        "the head has 10 outputs, one a digit",
    ],
    "command": "skipgrad check skipgrad:plain56 --data digits --seed 0",
    "seed": 0,
    "steps": STEPS,
    "batch_size": 64,
    "optimizer": "sgd",
    "lr": 0.1,
    "device": "cpu",
    "precision": "float32",
    "versions": {"skipgrad": "0.1.0", "torch": "2.11.0", "python": "3.11.7"},
    "state": "done",
    "started": "2026-11-21T11:04:00+00:00",
    "report": "skipgrad-runs/plain56/report.html",
}
NAMES = {
    "SG001": "Vanishing gradient",
    "SG002": "Exploding gradient",
    "SG003": "Stalled updates",
    "SG004": "Deep and skipless",
    "SG005": "Idle branch",
    "SG006": "Drowned skip",
    "SG007": "Unclean shortcut",
    "SG008": "Unscaled long skips",
    "SG009": "Growing stream",
    "SG010": "Non-finite values",
    "SG011": "Paths too long or too short",
}


def resnet_layers(blocks: tuple[int, ...], convs: int, width: int = 16) -> tuple[Layer, ...]:
    """The weighted layers of a ResNet without its shortcuts' projections."""
    layers = [Layer("stem", "conv2d", (64, width, 32, 32), "stem")]
    for s, n in enumerate(blocks, 1):
        for b in range(n):
            for c in range(1, convs + 1):
                layers.append(Layer(f"layer{s}.{b}.conv{c}", "conv2d", (64, width * 2**s, 32, 32), f"layer{s}"))
    return (*layers, Layer("fc", "linear", (64, 10), "fc"))


def resnet_skips(blocks: tuple[int, ...], convs: int) -> tuple[Skip, ...]:
    """One add a block."""
    skips: list[Skip] = []
    position = 1
    for s, n in enumerate(blocks, 1):
        for b in range(n):
            name = f"layer{s}.{b}"
            branch = tuple(f"{name}.conv{c}" for c in range(1, convs + 1))
            kind = "projection" if b == 0 and s > 1 else "identity"
            shape = (64, 16 * 2**s, 32, 32)
            skips.append(
                Skip(
                    name,
                    "add",
                    kind,
                    False,
                    convs,
                    2,
                    (branch,),
                    shape,
                    shape,
                    name,
                    start=position,
                    end=position + convs,
                )
            )
            position += convs
    return tuple(skips)


def unet_graph(depth: int = 5) -> SkipGraph:
    """Encoder, bottom and decoder, two convolutions each, with a concat from each level to its mirror image."""
    layers: list[Layer] = []
    skips: list[Skip] = []
    for d in range(depth):
        layers += [Layer(f"down{d}.conv{c}", "conv2d", (4, 16, 64, 64), f"down{d}") for c in (1, 2)]
    layers += [Layer(f"bottom.conv{c}", "conv2d", (4, 16, 64, 64), "bottom") for c in (1, 2)]
    for d in reversed(range(depth)):
        layers.append(Layer(f"up{d}.up", "conv_transpose2d", (4, 16, 64, 64), f"up{d}"))
        start, end = 2 * (d + 1), len(layers)
        branch = tuple(layer.name for layer in layers[start:end])
        skips.append(
            Skip(
                f"up{d}",
                "concat",
                "identity",
                True,
                end - start,
                2,
                (branch,),
                (4,),
                (4,),
                f"up{d}",
                start=start,
                end=end,
            )
        )
        layers += [Layer(f"up{d}.conv{c}", "conv2d", (4, 16, 64, 64), f"up{d}") for c in (1, 2)]
    layers.append(Layer("head", "conv2d", (4, 2, 64, 64), "head"))
    return SkipGraph(tuple(skips), layers=tuple(layers), model="unet")


def layer_rows(
    graph: SkipGraph, fade: float, steps: tuple[int, ...] = MEASURED, lr: float = 0.1
) -> tuple[LayerRow, ...]:
    """Gradients that fall from 1 at the last layer to ``fade`` at the first, a little noisy, growing over the steps."""
    rng = random.Random(7)
    rows = []
    last = max(1, len(graph.layers) - 1)
    for step in steps:
        for depth, layer in enumerate(graph.layers):
            norm = fade ** (1 - depth / last) * math.exp(rng.gauss(0, 0.15)) * (1 + step / STEPS)
            stalled = min(1.0, max(0.0, 0.5 - math.log10(norm + 1e-30) / 8 - 0.5)) if norm < 1e-4 else 0.0
            update = lr * norm * 0.4 if stalled < 1 else 0.0
            rows.append(LayerRow(step, layer.name, depth, norm, 12.0, norm * 0.4, update, stalled, 0.0, 9216))
    return tuple(rows)


def skip_rows(graph: SkipGraph, steps: tuple[int, ...] = MEASURED) -> tuple[SkipRow, ...]:
    """Shares that drift from shortcut to branch as the net learns."""
    rng = random.Random(11)
    n = max(1, len(graph.skips) - 1)
    rows = []
    for step in steps:
        for i, skip in enumerate(graph.skips):
            s = (0.3 + i / n) * math.exp(rng.gauss(0, 0.1))
            b = (
                s
                * (0.15 + 1.1 * step / STEPS * (0.4 + 0.6 * math.sin(2.5 * i / n) ** 2))
                * math.exp(rng.gauss(0, 0.15))
            )
            total = math.sqrt(s * s + b * b)
            rows.append(SkipRow(step, 0, skip.name, s, b, total, s, 0.05, total / s, 1.0, 0.4, 1e-8))
    return tuple(rows)


def spectrum(n: int, p: float, at: str = "layer1.0") -> PathSpectrum:
    """Of n branches in a row, each with the share p of the gradient: a binomial."""
    shares = tuple(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1))
    norms = tuple(math.sqrt(s) for s in shares)
    names = tuple(f"b{i}" for i in range(n))
    return PathSpectrum(at, tuple(range(n + 1)), norms, shares, 0.0, 0.0, 1.0, n * p, 1e-7, n, names, dtype="float32")


def paths(n: int, before: float, after: float, at: str = "layer1.0") -> tuple[PathRow, ...]:
    """Before the first step and after the last."""
    return (PathRow(0, spectrum(n, before, at)), PathRow(STEPS, spectrum(n, after, at)))


def losses(trial: int, start: float, end: float, pace: float, seed: int, cost: float = 0.05) -> list[LossPoint]:
    rng = random.Random(seed)
    return [
        LossPoint(trial, s, end + (start - end) * math.exp(-pace * s) + abs(rng.gauss(0, 0.02)), cost * (s + 1))
        for s in range(STEPS)
    ]


def findings(**found: tuple[str, tuple[str, ...], dict[str, object], str, tuple[str, ...]]) -> tuple[Finding, ...]:
    """All checks: those named are found, the others passed but for two that could not judge."""
    out = []
    for code, title in NAMES.items():
        if code in found:
            severity, where, evidence, prescription, remedies = found[code]
            out.append(Finding(code, title, severity, "found", where, evidence, prescription, remedies))  # type: ignore[arg-type]
        elif code == "SG008":
            out.append(
                Finding(
                    code,
                    title,
                    "warning",
                    "not applicable",
                    prescription="the net has fewer than two nested long skips",
                )
            )
        elif code == "SG009":
            out.append(Finding(code, title, "warning", "skipped", prescription="the watch was given no optimizer"))
        else:
            out.append(Finding(code, title, "warning", "passed"))
    return tuple(out)


def plain56() -> Run:
    """56 layers without a skip, a gradient that fades from 1 to 1e-12, and what adding skips does to it."""
    layers = resnet_layers((9, 9, 9), 2)
    graph = SkipGraph((), layers=layers, model="skipgrad:plain56", notes=("dropout is off in this model",))
    cured = replace(graph, skips=resnet_skips((9, 9, 9), 2), notes=())
    trials = [Trial(0, None, 0.1, 0, STEPS, measured=True, state="done")]
    points = losses(0, 2.35, 2.28, 0.02, 0)
    for i, seed in enumerate((0, 1, 2)):
        trials.append(Trial(10 + i, None, 0.1, seed, STEPS, state="done"))
        trials.append(Trial(20 + i, "add-skips", 0.3, seed, STEPS, state="done"))
        trials.append(Trial(30 + i, "clip", 0.1, seed, STEPS, state="done"))
        points += losses(10 + i, 2.35, 2.28, 0.02, seed) + losses(30 + i, 2.35, 2.27, 0.02, 5 + seed, 0.052)
        points += losses(20 + i, 2.4, 0.12, 0.03, 10 + seed, 0.058)
    trials.append(Trial(40, "add-skips", 0.3, 0, STEPS, measured=True, state="done"))
    points += losses(40, 2.4, 0.12, 0.03, 50, 0.058)
    cures = (
        Cure(
            "add-skips", "helped", "reaches the patient's best loss after 9 of its 190 steps", 0.14, 2.29, 0.047, 0.055,
            (0.042, 0.053), (0.049, 0.061), 0.12, 2.27, 0.3, 0.1, 3,
            'import skipgrad as sg\n\nsg.remedy("add-skips").plan(graph).apply(model)\n',
        ),
        Cure("clip", "no change", "0.98 of the patient's steps, inside the spread", 2.28, 2.29,
             0.98, 1.02, (0.9, 1.1), (0.94, 1.15), 2.27, 2.27, 0.1, 0.1, 3, "torch.nn.utils.clip_grad_norm_(…)"),
        Cure("warm-up", "worse", "never reaches the patient's best loss", 2.31, 2.29, best_loss=2.30,
             patient_best_loss=2.27, rate=0.1, patient_rate=0.1, seeds=3),
        Cure("skip-calibration", "refused", "the model has no skip connection to calibrate"),
    )  # fmt: skip
    first = ("stem", "layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1")
    found = findings(
        SG001=(
            "error", first,
            {"first_to_last": 1.4e-12, "threshold": 1e-3, "per_layer_factor": 0.61, "steps": 20},
            "Give the gradient a way past the layers: add identity shortcuts around each pair of convolutions.",
            ("add-skips",),
        ),
        SG003=(
            "warning", first[:2], {"stalled": 0.98, "threshold": 0.5},
            "The updates of these layers round to nothing in float32; cure the gradient first.", ("add-skips",),
        ),
        SG004=(
            "warning", ("layer1.0",), {"skips": 0, "layers": 56}, "Bridge pairs of one width.", ("add-skips",),
        ),
    )  # fmt: skip
    return Run(
        META, graph, tuple(trials), tuple(points),
        skip_rows={40: skip_rows(cured)},
        layer_rows={0: layer_rows(graph, 1e-12), 40: layer_rows(cured, 0.3)},
        findings=found, cures=cures, graphs={40: cured},
        notes=("1 backward of 200 could not be matched to the trace and was left out",),
        path="skipgrad-runs/plain56/run.db", paths={40: paths(27, 0.1, 0.15)},
    )  # fmt: skip


def standstill() -> Run:
    """The same net where the patient's loss does not fall at all: nothing to be faster than."""
    run = plain56()
    none = dict.fromkeys(("steps_ratio", "seconds_ratio", "steps_spread", "seconds_spread"))
    flat = {"patient_trains": False, "patient_best_loss": 2.3, "patient_first_loss": 2.32}
    cures = tuple(replace(c, **none, **({} if c.state == "refused" else flat)) for c in run.cures)
    return replace(run, cures=cures)


def healthy(graph: SkipGraph | None = None, model: str = "torchvision:resnet152") -> Run:
    """A net with nothing to find; a ResNet-152 with its 50 arcs unless another is given."""
    if graph is None:
        graph = SkipGraph(resnet_skips((3, 8, 36, 3), 3), layers=resnet_layers((3, 8, 36, 3), 3), model=model)
    trial = Trial(0, None, 0.1, 0, STEPS, measured=True, state="done")
    return Run(
        {**META, "model": model, "command": f"skipgrad check {model} --data digits"},
        graph, (trial,), tuple(losses(0, 2.4, 0.2, 0.03, 0)),
        skip_rows={0: skip_rows(graph)}, layer_rows={0: layer_rows(graph, 0.4)}, findings=findings(), path="run.db",
        paths={0: paths(graph.count("add"), 0.26, 0.16)} if 0 < graph.count("add") < 100 else {},
    )  # fmt: skip


def resnet152_sick() -> Run:
    """A ResNet-152 two of whose skips are unwell."""
    run = healthy()
    found = findings(
        SG006=(
            "error", ("layer3.20", "layer3.21"), {"share": 0.02, "threshold": 0.05},
            "Nearly no gradient comes through these shortcuts; look for a gate that closed.", (),
        ),
        SG005=(
            "warning", ("layer2.3", "layer4.1"), {"branch_to_skip": 0.004, "threshold": 0.01},
            "These branches learn next to nothing; drop them or start their last norm at one.", ("drop-branches",),
        ),
    )  # fmt: skip
    return replace(run, findings=found)


def unet() -> Run:
    """A U-Net with five nested long skips."""
    return healthy(unet_graph(), "package.module:unet")


def interrupted() -> Run:
    """Stopped by Ctrl-C in the middle of the measured trial: no findings, no cures."""
    run = plain56()
    rows = tuple(r for r in run.layer_rows[0] if r.step < 40)
    return Run(
        {**META, "state": "interrupted"}, run.graph, (replace(run.trials[0], state="interrupted"),),
        tuple(p for p in run.losses if p.trial == 0 and p.step < 45), layer_rows={0: rows}, path="run.db",
    )  # fmt: skip


def nothing() -> Run:
    """Failed before anything was found."""
    return Run({"model": "file.py:net", "state": "failed", "error": "ModelError: the forward raised"}, path="run.db")


def all_nan() -> Run:
    """Diverged at once: no figure in it is a number."""
    run = unet()
    nan = math.nan
    skips = tuple(replace(r, skip_norm=nan, branch_norm=nan, total_norm=nan, finite=False) for r in run.skip_rows[0])
    layers = tuple(
        replace(r, out_grad_norm=nan, weight_grad_norm=math.inf, update_norm=nan, finite=False)
        for r in run.layer_rows[0]
    )
    points = tuple(replace(p, loss=nan) for p in run.losses)
    trial = replace(run.trials[0], state="diverged")
    return replace(run, trials=(trial,), losses=points, skip_rows={0: skips}, layer_rows={0: layers})


def hostile() -> Run:
    """Names that try to get out of their place: HTML, attributes, script ends, terminal escapes, rich's markup."""
    evil = '</script><script>alert("x")</script><img src=x onerror=alert(1)>\x1b[31m[bold]{{7*7}}\'"&<!--'
    graph = unet_graph(3)
    rename = {graph.layers[0].name: evil + "0", graph.skips[0].name: evil}
    layers = tuple(replace(la, name=rename.get(la.name, la.name), stage=evil + la.stage) for la in graph.layers)
    skips = tuple(replace(s, name=rename.get(s.name, s.name)) for s in graph.skips)
    graph = replace(graph, layers=layers, skips=skips, model=evil, notes=(evil,))
    run = healthy(graph, evil)
    found = findings(SG001=("error", (evil,), {evil: evil, "ratio": 0.1}, evil, (evil,)))
    cure = Cure(evil, "helped", evil, 1.0, 2.0, 0.5, 0.5, (0.4, 0.6), (0.4, 0.6), 1.0, 2.0, 0.1, 0.1, 3, evil)
    meta = {**run.meta, "data": evil, "fit": [evil]}
    told = {0: (*paths(5, 0.3, 0.2, evil), PathRow(STEPS + 1, None, evil))}
    return replace(run, findings=found, cures=(cure,), notes=(evil,), meta=meta, paths=told)
