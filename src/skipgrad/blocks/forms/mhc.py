"""mHC: hyper-connections whose mixing matrix is doubly stochastic, as far as Sinkhorn's iterations bring it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from skipgrad.blocks.forms._merging import check_sum
from skipgrad.blocks.forms._streams import broadcast, check_streams, expanded, mixed, reduced
from skipgrad.blocks.forms.registry import FORMS, TOKENS, FormEntry, Seen, linears
from skipgrad.core import BadInput

_FAR = 8.0  # logits at the start: σ(8) is .9997


def sinkhorn(logits: Tensor, iterations: int = 20) -> Tensor:
    """exp(logits) with rows and columns divided by their sums in turn, columns last: (…, n, n) → the same.

    Sinkhorn and Knopp (1967). In logarithms, so that nothing overflows. The columns then sum to 1 up to rounding, the
    rows only nearly: see `sinkhorn_residual`.
    """
    for _ in range(iterations):
        logits = logits - logits.logsumexp(-1, keepdim=True)
        logits = logits - logits.logsumexp(-2, keepdim=True)
    return logits.exp()


def sinkhorn_residual(matrix: Tensor) -> float:
    """How far a matrix is from doubly stochastic: the largest |sum − 1| of a row or a column."""
    rows, columns = (matrix.sum(-1) - 1).abs().max(), (matrix.sum(-2) - 1).abs().max()
    return float(torch.maximum(rows, columns))


class ManifoldHyperConnection(nn.Module):
    """X′ = H_res X + H_postᵀ F(H_pre X), H_res = sinkhorn(·), H_pre = σ(·), H_post = 2σ(·): (n, …, channels) → the
    same.

    Xie et al., "mHC: manifold-constrained hyper-connections" (arXiv 2512.24880). At the start H_res is nearly the
    identity, H_pre nearly reads stream ``layer mod n`` alone, H_post is all ones. Dynamic, a part g·(norm(X) W) that
    depends on the token is added to the three logits, X's streams flattened into one vector; g = .01 and W = 0 at the
    start.

    Args:
        branch: F, with its own norm, on (…, channels).
        channels: channels of x, its last dimension; only the dynamic form needs it.
        num_residual_streams: n.
        layer: number of the branch in the net, from 0.
        iterations: of Sinkhorn.
        dynamic: whether the weights depend on the token.

    Raises:
        BadInput: fewer than one stream or iteration; in the forward, when branch and streams do not add.
    """

    def __init__(
        self,
        branch: nn.Module,
        channels: int,
        num_residual_streams: int = 4,
        *,
        layer: int = 0,
        iterations: int = 20,
        dynamic: bool = False,
    ) -> None:
        super().__init__()
        check_streams("building a manifold-constrained hyper-connection", num_residual_streams)
        if iterations < 1:
            raise BadInput("building mHC", received=f"iterations={iterations}", todo="give at least 1")
        n = num_residual_streams
        self.branch, self.iterations, self.dynamic = branch, iterations, dynamic
        self.res = nn.Parameter(_FAR * (torch.eye(n) - 1))
        self.pre = nn.Parameter(_FAR * (2 * torch.eye(n)[layer % n] - 1))
        self.post = nn.Parameter(torch.zeros(n))
        if dynamic:
            self.norm = nn.RMSNorm(n * channels)
            self.project = nn.Linear(n * channels, n * n + 2 * n, bias=False)
            nn.init.zeros_(self.project.weight)
            self.gate = nn.Parameter(torch.full((3,), 0.01))

    def no_weight_decay(self) -> set[str]:
        """Names of what weight decay is to leave alone."""
        return {"res", "pre", "post"}

    def mixing(self) -> Tensor:
        """H_res without the part that depends on the token: (n, n), doubly stochastic up to `residual`."""
        return sinkhorn(self.res, self.iterations)

    @torch.no_grad()
    def residual(self) -> float:
        """How far H_res is from doubly stochastic after its iterations."""
        return sinkhorn_residual(self.mixing().double())

    def forward(self, streams: Tensor) -> Tensor:
        if self.dynamic:
            return self._dynamic(streams)
        x = mixed(torch.sigmoid(self.pre)[None], streams)[0]
        f = self.branch(x)
        check_sum(self, x, f)
        return mixed(self.mixing(), streams) + broadcast(2 * torch.sigmoid(self.post), f)

    def _dynamic(self, streams: Tensor) -> Tensor:
        n = len(streams)
        flat = streams.movedim(0, -2).flatten(-2)  # (…, n·channels)
        told = self.project(self.norm(flat))
        pre = torch.sigmoid(self.pre + self.gate[0] * told[..., :n]).movedim(-1, 0)
        post = 2 * torch.sigmoid(self.post + self.gate[1] * told[..., n : 2 * n]).movedim(-1, 0)
        res = sinkhorn(self.res + self.gate[2] * told[..., 2 * n :].unflatten(-1, (n, n)), self.iterations)
        x = (pre.unsqueeze(-1) * streams).sum(0)
        f = self.branch(x)
        check_sum(self, x, f)
        return torch.einsum("...ij,j...d->i...d", res, streams) + post.unsqueeze(-1) * f


class ManifoldHyperConnections(nn.Module):
    """Branches on n residual streams, mixed by nearly doubly stochastic matrices: (…, channels) → the same.

    Args:
        branches: F₁ … F_L, each with its own norm.
        channels: channels of x, its last dimension.
        num_residual_streams: n.
        iterations: of Sinkhorn.
        dynamic: whether the weights depend on the token.

    Raises:
        BadInput: fewer than one stream.
    """

    def __init__(
        self,
        branches: Iterable[nn.Module],
        channels: int,
        num_residual_streams: int = 4,
        *,
        iterations: int = 20,
        dynamic: bool = False,
    ) -> None:
        super().__init__()
        check_streams("building manifold-constrained hyper-connections", num_residual_streams)
        self.num_residual_streams = n = num_residual_streams
        self.layers = nn.ModuleList(
            ManifoldHyperConnection(branch, channels, n, layer=k, iterations=iterations, dynamic=dynamic)
            for k, branch in enumerate(branches)
        )

    def residuals(self) -> list[float]:
        """How far each H_res is from doubly stochastic."""
        return [layer.residual() for layer in self.layers]  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        streams = expanded(x, self.num_residual_streams)
        for layer in self.layers:
            streams = layer(streams)
        return reduced(streams)


def _initially(m: nn.Module, x: Tensor) -> Tensor:
    n = 4
    streams = [x] * n
    for k, layer in enumerate(m.layers):  # type: ignore[arg-type]
        read = torch.sigmoid(torch.tensor([8.0 if j == k % n else -8.0 for j in range(n)], dtype=x.dtype))
        f = layer.branch(mixed(read[None], torch.stack(streams))[0])
        away = torch.full((n, n), -8.0, dtype=x.dtype).fill_diagonal_(0)
        streams = list(mixed(sinkhorn(away, 20), torch.stack(streams)) + f)
    return torch.stack(streams).mean(0)


FORMS.register(
    "mhc",
    FormEntry(
        title="mHC",
        build=ManifoldHyperConnections,
        example=lambda: ManifoldHyperConnections([linears(), linears()], 6, num_residual_streams=4),
        shape=TOKENS,
        formula="X′ = H_res X + H_postᵀ F(H_pre X), H_res = sinkhorn(·)",
        paper='Xie et al., "mHC: manifold-constrained hyper-connections", 2025 (arXiv 2512.24880)',
        shapes="(…, C) → the same; within, (n, …, C)",
        start="nearly x + F(x), block after block: H_res mixes .0003 of each other stream, H_pre reads .9997 of one",
        initially=_initially,
        finds=(Seen("add", "projection", 3), Seen("add", "projection", 3)),
        when="Hyper-connections that are to stay stable in deep nets: the mean over the streams passes every "
        "mixing unchanged, up to `residuals()`.",
        cost="as hyper-connections, and Sinkhorn's iterations on n×n numbers",
        sees="As for hyper-connections. Sinkhorn acts on weights, not on activations, in the static form.",
    ),
)
