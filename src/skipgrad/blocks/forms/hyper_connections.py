"""Hyper-connections: n residual streams, read, mixed and written by learned weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from skipgrad.blocks.forms._merging import check_sum
from skipgrad.blocks.forms._streams import broadcast, check_streams, expanded, mixed, reduced
from skipgrad.blocks.forms.registry import FORMS, TOKENS, FormEntry, Seen, linears


class HyperConnection(nn.Module):
    """X′ = H_res X + H_postᵀ F(H_pre X) on n streams X: (n, …, channels) → the same.

    Zhu et al., "Hyper-connections" (arXiv 2409.19606). At the start H_res is the identity, H_post all ones and H_pre
    reads stream ``layer mod n``, so that every stream is a Pre-norm residual. Dynamic, each of the three gets a part
    s·tanh(norm(X) W) that depends on the token; W = 0 at the start.

    Args:
        branch: F, with its own norm, on (…, channels).
        channels: channels of x, its last dimension; only the dynamic form needs it.
        num_residual_streams: n.
        layer: number of the branch in the net, from 0.
        dynamic: whether the weights depend on the token.

    Raises:
        BadInput: fewer than one stream; in the forward, when branch and streams do not add.
    """

    def __init__(
        self, branch: nn.Module, channels: int, num_residual_streams: int = 4, *, layer: int = 0, dynamic: bool = False
    ) -> None:
        super().__init__()
        check_streams("building a hyper-connection", num_residual_streams)
        n = num_residual_streams
        self.branch, self.dynamic = branch, dynamic
        self.res = nn.Parameter(torch.eye(n))
        self.pre = nn.Parameter(torch.eye(n)[layer % n].clone())
        self.post = nn.Parameter(torch.ones(n))
        if dynamic:
            self.norm = nn.RMSNorm(channels)
            self.project = nn.Linear(channels, n + 2, bias=False)  # to n numbers for res, one for pre, one for post
            nn.init.zeros_(self.project.weight)
            self.scale = nn.Parameter(torch.full((2,), 0.01))

    def no_weight_decay(self) -> set[str]:
        """Names of what weight decay is to leave alone."""
        return {"res", "pre", "post"}

    def forward(self, streams: Tensor) -> Tensor:
        if self.dynamic:
            return self._dynamic(streams)
        x = mixed(self.pre[None], streams)[0]
        f = self.branch(x)
        check_sum(self, x, f)
        return mixed(self.res, streams) + broadcast(self.post, f)

    def _dynamic(self, streams: Tensor) -> Tensor:
        n = len(streams)
        told = torch.tanh(self.project(self.norm(streams)))  # (n, …, n + 2)
        ones = [1] * (streams.dim() - 2)
        pre = self.pre.view(n, *ones) + self.scale[0] * told[..., n]
        post = self.post.view(n, *ones) + self.scale[1] * told[..., n + 1]
        res = self.res.T.reshape(n, *ones, n) + self.scale[0] * told[..., :n]  # from stream, …, to stream
        x = (pre.unsqueeze(-1) * streams).sum(0)
        f = self.branch(x)
        check_sum(self, x, f)
        return torch.einsum("j...i,j...d->i...d", res, streams) + post.unsqueeze(-1) * f


class HyperConnections(nn.Module):
    """Branches on n residual streams: x → n copies → each branch by a `HyperConnection` → the mean: (…, channels) →
    the same.

    Args:
        branches: F₁ … F_L, each with its own norm.
        channels: channels of x, its last dimension.
        num_residual_streams: n.
        dynamic: whether the weights depend on the token.

    Raises:
        BadInput: fewer than one stream.
    """

    def __init__(
        self, branches: Iterable[nn.Module], channels: int, num_residual_streams: int = 4, *, dynamic: bool = False
    ) -> None:
        super().__init__()
        check_streams("building hyper-connections", num_residual_streams)
        self.num_residual_streams = num_residual_streams
        self.layers = nn.ModuleList(
            HyperConnection(branch, channels, num_residual_streams, layer=k, dynamic=dynamic)
            for k, branch in enumerate(branches)
        )

    def forward(self, x: Tensor) -> Tensor:
        streams = expanded(x, self.num_residual_streams)
        for layer in self.layers:
            streams = layer(streams)
        return reduced(streams)


def _initially(m: nn.Module, x: Tensor) -> Tensor:
    for layer in m.layers:  # type: ignore[union-attr]
        x = x + layer.branch(x)
    return x


FORMS.register(
    "hyper-connections",
    FormEntry(
        title="Hyper-connections",
        build=HyperConnections,
        example=lambda: HyperConnections([linears(), linears()], 6, num_residual_streams=4),
        shape=TOKENS,
        formula="X′ = H_res X + H_postᵀ F(H_pre X)",
        paper='Zhu et al., "Hyper-connections", 2024 (arXiv 2409.19606)',
        shapes="(…, C) → the same; within, (n, …, C)",
        start="x + F(x), block after block: every stream the same",
        initially=_initially,
        finds=(Seen("add", "projection", 3), Seen("add", "projection", 3)),
        when="Large transformers: what a wider residual stream gives, without wider branches.",
        cost="n times the memory of the stream, and 2n + n² products a value and branch",
        sees="H_res is learned, so the shortcut is a projection; H_pre, learned as well, counts to the branch. "
        "The dynamic form's H depends on X, so that its shortcut is no longer linear in X: `find` lists no "
        "skip there, by definition.",
        outside="hyper-connections HyperConnections",
    ),
)
