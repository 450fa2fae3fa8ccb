"""What the optimizer's step did to the weights of each layer: read before it, compared after it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from skipgrad.ledger.norms import norm_of


@dataclass
class WeightStats:
    """Figures of one layer's weights in one step; see `LayerRow`."""

    weight_norm: float
    weight_grad_norm: float | None
    update_norm: float | None
    stalled: float | None
    zero_grad: float | None
    weights: int
    dtype: str
    finite: bool


# Of a larger weight, so many evenly spaced blocks of so many neighbours stand for all: copying and comparing every
# weight of a big net would cost more than its step.
BLOCKS, BLOCK = 64, 256


def sample(t: Tensor) -> Tensor:
    """The elements of a weight that updates are read from: all of a small one, 64 blocks of 256 of a large one.

    The order is that of memory, so a weight and its gradient must be laid out alike to be compared.
    """
    if t.numel() <= 4 * BLOCKS * BLOCK:
        return t.reshape(-1)
    flat = t.contiguous().view(-1)
    return flat.as_strided((BLOCKS, BLOCK), (flat.numel() // BLOCKS, 1), flat.storage_offset()).reshape(-1)


class WeightWatch:
    """Follows the weights of the layers through optimizer steps.

    Args:
        model: owns them.
        layers: names of the weights of each layer.
        named: its parameters by name, where those it has just now are not those the optimizer steps.

    Of a weight that is spread over several processes, the part that is here is what is followed.
    """

    def __init__(
        self, model: nn.Module, layers: dict[str, tuple[str, ...]], named: dict[str, nn.Parameter] | None = None
    ) -> None:
        if named is None:
            named = dict(model.named_parameters(remove_duplicate=False))
        self._layers = {layer: [named[w] for w in weights if w in named] for layer, weights in layers.items()}
        self._before: dict[str, list[Tensor]] = {}
        self._norms: dict[str, float] = {}

    def keep(self) -> None:
        """Takes down the weights, for `moved` to compare with."""
        self._before = {layer: [sample(_local(p)).clone() for p in ps] for layer, ps in self._layers.items() if ps}
        self._norms = {layer: norm_of([_local(p) for p in ps])[0] for layer, ps in self._layers.items() if ps}

    def norms(self, factor: float = 1.0) -> dict[str, WeightStats]:
        """Norms of gradients as they are now, over `factor`, and of weights as they were when last taken down."""
        out: dict[str, WeightStats] = {}
        for layer, params in self._layers.items():
            if not params:
                continue
            grads = [g for g in map(_grad, params) if g is not None]
            grad_norm, finite = norm_of(grads) if grads else (None, True)
            grad_norm = None if grad_norm is None else grad_norm / factor
            seen = [sample(g) for g in grads]
            out[layer] = WeightStats(
                weight_norm=self._norms[layer] if layer in self._norms else norm_of([_local(p) for p in params])[0],
                weight_grad_norm=grad_norm,
                update_norm=None,
                stalled=None,
                zero_grad=sum(int((g == 0).sum()) for g in seen) / max(1, sum(g.numel() for g in seen))
                if seen
                else None,
                weights=sum(_local(p).numel() for p in params),
                dtype=str(params[0].dtype).removeprefix("torch."),
                finite=finite,
            )
        return out

    def moved(self, stats: dict[str, WeightStats]) -> None:
        """Fills in what the step since `keep` changed; the gradients must still be those of the step."""
        for layer, before in self._before.items():
            params, entry = self._layers[layer], stats[layer]
            squares, still, looked = 0.0, 0, 0
            for p, b in zip(params, before, strict=True):
                whole = _local(p)
                now = sample(whole)
                squares += norm_of([now - b])[0] ** 2 * (whole.numel() / max(1, b.numel()))
                grad = _grad(p)
                looked += b.numel()
                if grad is not None:
                    still += int(((now == b) & (sample(grad) != 0)).sum())
            entry.update_norm = squares**0.5
            entry.stalled = still / looked if entry.weight_grad_norm is not None and looked else None
        self._before.clear()
        self._norms.clear()


def _local(t: Tensor) -> Tensor:
    """The part of a tensor that this process holds: all of it, unless it is distributed."""
    t = t.detach()
    return t.to_local() if hasattr(t, "to_local") else t  # pyright: ignore[reportAttributeAccessIssue]


def _grad(p: Tensor) -> Tensor | None:
    grad = p.grad
    if grad is None:
        return None
    grad = _local(grad)
    return grad.to_dense() if grad.is_sparse else grad
