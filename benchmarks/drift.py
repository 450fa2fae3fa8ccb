"""How alike adjacent representations are, and how far weights come: residual nets and plain ones on digits.

    python benchmarks/drift.py [--steps 150] [--seeds 3] [--threads 1]

Per net and seed: the loss at the end, the mean cosine of adjacent representations of the same shape for 100 images held
out (in training mode, so that batch norm uses their own statistics) before and after training, and the mean of
‖w − w₀‖ / ‖w₀‖ over the layers. Of a residual net what its merges return, two layers apart; of a plain one what
its layers take in, one layer apart. Last, for both alike, the cosine and the linear CKA of what a block of two layers
is given and what it returns, mean over blocks that keep the shape.
"""

from __future__ import annotations

import argparse
import statistics

import torch
import torch.nn.functional as F
from machine import machine, versions
from sklearn.datasets import load_digits
from torch import nn

from skipgrad.models import resolve_model
from skipgrad.probes.drift import Drift

NETS = {
    "skipgrad:plain8": {"norm": "batch"},
    "skipgrad:plain20": {"norm": "batch"},
    "skipgrad:resnet20": {},
    "skipgrad:preresnet20": {},
    "skipgrad:resnet56": {},
}


def train(model: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int, seed: int) -> float:
    """SGD with momentum at a rate of .05, batches of 64; the mean loss of the last ten steps."""
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(steps):
        taken = torch.randint(0, len(x), (64,), generator=order)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x[taken]), y[taken])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return statistics.fmean(losses[-10:])


def cka(a: torch.Tensor, b: torch.Tensor) -> float:
    """Linear CKA (Kornblith et al., arXiv 1905.00414) of two (images, features)."""
    a, b = a - a.mean(0), b - b.mean(0)
    return ((a.T @ b).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm())).item()


def by_block(model: nn.Module, x: torch.Tensor) -> tuple[float, float]:
    """Mean cosine and mean CKA of a block's input and output."""
    pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
    hooks = [
        block.register_forward_hook(lambda _m, args, out: pairs.append((args[0].flatten(1), out.flatten(1))))
        for stage in (model.stage1, model.stage2, model.stage3)
        for block in stage
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    alike = [(a, b) for a, b in pairs if a.shape == b.shape]
    cosine = F.cosine_similarity
    return (
        statistics.fmean(cosine(a.flatten(), b.flatten(), dim=0).item() for a, b in alike),
        statistics.fmean(cka(a, b) for a, b in alike),
    )


def main() -> None:
    """Prints one line per net and seed."""
    parser = argparse.ArgumentParser()
    for name, value in (("steps", 150), ("seeds", 3), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"# {machine()}; {versions('torch')}")
    digits = load_digits()
    x, y = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1, torch.tensor(digits.target)
    for name, kinds in NETS.items():
        for seed in range(options.seeds):
            torch.manual_seed(seed)
            model = resolve_model(name, kinds).build().train()
            drift = Drift(model, None, (x[1500:1600],))
            loss = train(model, x[:1500], y[:1500], options.steps, seed)
            reading = drift.now()
            cosine, alike = by_block(model, x[1500:])
            moved = statistics.fmean(w.change for w in reading.weights)
            print(
                f"{name:<22} seed {seed}  loss {loss:.3f}  adjacent cosine {reading.adjacent:.3f}, "
                f"at the start {reading.adjacent_start:.3f} ({reading.adjacent_change:+.3f})  weights {moved:.2f}  "
                f"blocks: cosine {cosine:.3f}, CKA {alike:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
