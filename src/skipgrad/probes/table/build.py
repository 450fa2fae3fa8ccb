"""The gradient table: each layer's dL/dx by autograd, by its formula, and by the popular formula."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from skipgrad.core.errors import BadInput, MeasureError
from skipgrad.core.units import shape
from skipgrad.instrument.faults import first_line
from skipgrad.probes.table.default import default_layers
from skipgrad.probes.table.kinds import Kind, kind_of
from skipgrad.probes.table.kinds.kind import DOING, total
from skipgrad.probes.table.records import GradientRow, Mode, Term
from skipgrad.probes.table.residual import Residual
from skipgrad.probes.table.table import GradientTable

ANY_SHAPE = (4, 8)  # the shape of the input that is drawn for a layer which takes any shape
# Arguments that a layer's repr shows although they have their usual value; they are cut from the table.
USUAL = re.compile(
    r", (eps=1e-05|momentum=0\.1|affine=True|elementwise_affine=True|track_running_stats=True|bias=True"
    r"|stride=\(1,( 1)?(, 1)?\))"
)


def gradient_table(
    layers: nn.Module | Iterable[nn.Module] | Mapping[str, nn.Module] | None = None,
    inputs: Any = None,
    grads: Any = None,
    *,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> GradientTable:
    """dL/dx of each layer, measured by autograd, beside its formula and the popular formula.

    The formulas are written out with tensors and use no autograd. A layer in which the modes differ has a row for each.
    Nothing is changed: copies of the layers are measured.

    Args:
        layers: a layer, several, or several by name; some of every sort when None. ``nn.Sequential`` is one layer
            made of others, and `Residual` puts a skip around a layer.
        inputs: x of each layer, as a tensor or a shape: one for one layer; for several a sequence as long, or a
            mapping by name. Drawn from the seed where there is none, in a shape that suits the layer.
        grads: dL/dy of each layer, as tensors, given in the same way. Drawn where there is none.
        dtype: in which everything is computed; layers, inputs and gradients are converted.
        seed: of what is drawn.

    Returns:
        The table; print it.

    Raises:
        BadInput: a layer of an unknown kind, or an input or gradient that does not fit its layer.
        MeasureError: a gradient that is not finite.

    Example:
        >>> from torch import nn
        >>> table = gradient_table(nn.BatchNorm2d(4))
        >>> [row.mode for row in table], all(row.error < 1e-14 for row in table)
        (['training', 'evaluation'], True)
        >>> table.row("BatchNorm2d(4)", "evaluation").popular_error < 1e-14
        True
        >>> table.row("BatchNorm2d(4)", "training").popular_error > 0.1
        True
    """
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise BadInput(DOING, where="dtype", received=repr(dtype), todo="pass torch.float64 or another real float type")
    named = _named(default_layers(seed) if layers is None else layers)
    kinds = {name: kind_of(layer, name) for name, layer in named.items()}
    alone = isinstance(layers, nn.Module) and not isinstance(layers, nn.ModuleList | nn.ModuleDict)
    given = _by_name(inputs, list(named), alone, "inputs")
    upstream = _by_name(grads, list(named), alone, "grads")
    rows: list[GradientRow] = []
    for i, (name, layer) in enumerate(named.items()):
        random = torch.Generator("cpu").manual_seed(seed + 1_000_003 * i)
        measured = _Measured(name, layer, kinds[name], dtype, random)
        rows += measured.rows(given.get(name), upstream.get(name))
    return GradientTable(tuple(rows), str(dtype).removeprefix("torch."), seed)


class _Measured:
    """One layer on its way into the table."""

    def __init__(self, name: str, layer: nn.Module, kind: Kind, dtype: torch.dtype, random: torch.Generator) -> None:
        self.name, self.layer, self.kind, self.dtype, self.random = name, layer, kind, dtype, random
        tensors = [*layer.parameters(), *layer.buffers()]
        if any(map(is_lazy, tensors)):
            raise BadInput(
                DOING, where=name, received="a lazy layer", todo="run it once, so that its weights have their shape"
            )
        self.device = tensors[0].device if tensors else torch.device("cpu")
        for tensor in tensors:
            if tensor.is_meta or tensor.is_complex():
                raise BadInput(
                    DOING,
                    where=name,
                    received="weights on the meta device" if tensor.is_meta else "complex weights",
                    todo="pass layers whose weights are real numbers with values",
                )

    def rows(self, given: Any, upstream: Any) -> list[GradientRow]:
        """The rows of the layer: one where training and evaluation mode do the same, else one for each mode."""
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(self.device.type, enabled=False):
            return self._rows(given, upstream)

    def _rows(self, given: Any, upstream: Any) -> list[GradientRow]:
        x = self._input(given)
        grad = None if upstream is None else self._tensor(upstream, "grads")
        if grad is None:
            grad = self._drawn(self._forward(self._twin(True), x)[1].shape)
        rows = [self._row(x, grad, training) for training in (True, False)]
        if self.kind.by_mode(self.layer):
            return rows
        return [replace(max(rows, key=lambda r: r.error), mode="both")]

    def _row(self, x: Tensor, grad: Tensor, training: bool) -> GradientRow:
        # Cached: a parametrized weight (spectral norm) must be the same for autograd and for the formula.
        with parametrize.cached():
            twin = self._twin(training)
            leaf, y = self._forward(twin, x)
            if grad.shape != y.shape:
                raise BadInput(
                    DOING,
                    where=f"grads of {self.name}",
                    received=f"a gradient of {shape(tuple(grad.shape))} for an output of {shape(tuple(y.shape))}",
                    todo="pass dL/dy, in the shape of y",
                )
            (measured,) = torch.autograd.grad(y, leaf, grad)
            with torch.no_grad():
                parts = self.kind.parts(twin, x, grad)
                formula = total(parts)
                popular = self.kind.popular(twin, x, grad)
        for what, value in (("autograd", measured), ("the formula", formula)):
            if not bool(torch.isfinite(value).all()):
                raise MeasureError(
                    DOING,
                    where=self.name,
                    received=f"a gradient by {what} that is not finite",
                    todo=f"finite weights and inputs, and sizes that {self.dtype} can hold",
                )
        size = _norm(measured)
        mode: Mode = "training" if training else "evaluation"
        popular_text = self.kind.popular_formula(twin)
        return GradientRow(
            layer=self.name,
            kind=self.kind.name,
            mode=mode,
            input_shape=tuple(x.shape),
            output_shape=tuple(y.shape),
            formula=self.kind.formula(twin).format(g="dL/dy"),
            popular_formula=None if popular_text is None else popular_text.format(g="dL/dy"),
            x=x,
            grad_output=grad,
            measured=measured,
            by_formula=formula,
            by_popular=popular,
            error=_error(formula, measured),
            popular_error=None if popular is None else _error(popular, measured),
            terms=tuple(
                Term(p.path, p.formula.format(g="dL/dy"), p.gradient, _ratio(_norm(p.gradient), size)) for p in parts
            ),
            note=self.kind.note(twin),
        )

    def _twin(self, training: bool) -> nn.Module:
        """A copy of the layer in a mode: a forward in training mode moves running statistics."""
        try:
            return copy.deepcopy(self.layer).to(self.dtype).train(training)
        except (RuntimeError, TypeError, NotImplementedError, ValueError) as error:
            raise BadInput(
                DOING,
                where=self.name,
                received=f"a layer that cannot be copied to {self.dtype} ({first_line(error)})",
                todo="pass a layer whose weights are plain parameters",
            ) from error

    def _forward(self, twin: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the layer; returns x as a leaf that requires grad, and y."""
        leaf = x.clone().requires_grad_()
        try:
            y = twin(leaf.clone())  # a clone: the layer may work in place
        except (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError) as error:
            raise BadInput(
                DOING,
                where=self.name,
                received=f"x of {shape(tuple(x.shape))}, at which its forward raised: {first_line(error)}",
                todo="pass inputs= that fit the layer",
            ) from error
        if y.numel() == 0:
            raise BadInput(
                DOING, where=self.name, received=f"an output of {shape(tuple(y.shape))}", todo="pass larger inputs="
            )
        return leaf, y

    def _input(self, given: Any) -> Tensor:
        if isinstance(given, Tensor):
            return self._tensor(given, "inputs")
        if given is None:
            given = self.kind.shape(self.layer, None) or self.kind.alone(self.layer) or ANY_SHAPE
        sizes = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else None
        if sizes is None or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in sizes):
            raise BadInput(
                DOING,
                where=f"inputs of {self.name}",
                received=repr(given),
                todo="pass a tensor, or a shape such as (8, 3, 32, 32)",
            )
        return 0.5 + 1.5 * self._drawn(sizes)  # a mean and a variance that cannot be overlooked

    def _drawn(self, sizes: Sequence[int]) -> Tensor:
        values = torch.randn(*sizes, generator=self.random, dtype=torch.float64, device="cpu")
        return values.to(self.device, self.dtype)

    def _tensor(self, given: Any, what: str) -> Tensor:
        if not isinstance(given, Tensor) or not given.is_floating_point():
            received = f"a tensor of {given.dtype}" if isinstance(given, Tensor) else f"a {type(given).__name__}"
            raise BadInput(DOING, where=f"{what} of {self.name}", received=received, todo="pass a tensor of floats")
        return given.detach().clone().to(self.device, self.dtype)


def _named(layers: Any) -> dict[str, nn.Module]:
    """The layers by name; a layer without a name is called by its description (`described`)."""
    if isinstance(layers, Mapping | nn.ModuleDict):
        pairs = [(str(name), layer) for name, layer in layers.items()]
    elif isinstance(layers, nn.Module) and not isinstance(layers, nn.ModuleList):
        pairs = [("", layers)]
    elif isinstance(layers, Iterable) and not isinstance(layers, str):
        pairs = [("", layer) for layer in layers]
    else:
        pairs = [("", layers)]
    if not pairs:
        raise BadInput(DOING, where="layers", received="none", todo="pass a layer, or leave layers out")
    named: dict[str, nn.Module] = {}
    for i, (name, layer) in enumerate(pairs):
        if not isinstance(layer, nn.Module):
            received = f"the class {layer.__name__}" if isinstance(layer, type) else f"a {type(layer).__name__}"
            raise BadInput(
                DOING, where=f"layer {name or i}", received=received, todo="pass modules, e.g. nn.Conv2d(3, 8, 3)"
            )
        base = name or described(layer)
        same, unique = 1, base
        while unique in named:
            same += 1
            unique = f"{base}#{same}"
        named[unique] = layer
    return named


def described(layer: nn.Module) -> str:
    """A layer in one line, as one would write it in code, without arguments that have their usual value."""
    if isinstance(layer, Residual):
        return f"x + F(x), F = {described(layer.branch)}"
    if isinstance(layer, nn.Sequential) and len(layer):
        return ", ".join(described(step) for step in layer)
    return f"{type(layer).__name__}({USUAL.sub('', layer.extra_repr())})"


def _by_name(given: Any, names: list[str], alone: bool, what: str) -> dict[str, Any]:
    """What was given for each layer, by the layer's name."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in names]
        if not unknown:
            return dict(given)
        received, todo = f"no layer of the name {unknown[0]!r}", f"the layers are called {', '.join(names)}"
    elif alone:
        return {names[0]: given}
    elif isinstance(given, Tensor) or not isinstance(given, Sequence) or isinstance(given, str):
        received, todo = f"a {type(given).__name__} for {len(names)} layers", "pass one for each, or a mapping by name"
    elif len(given) != len(names):
        received, todo = f"{len(given)} for {len(names)} layers", "pass one for each, or a mapping by name"
    else:
        return dict(zip(names, given, strict=True))
    raise BadInput(DOING, where=what, received=received, todo=todo)


def _norm(values: Tensor) -> float:
    return float(values.double().norm())


def _error(values: Tensor, truth: Tensor) -> float:
    return _ratio(_norm(values.double() - truth.double()), _norm(truth))


def _ratio(part: float, whole: float) -> float:
    """part / whole; 0/0 is no difference, and anything else over 0 an infinite one."""
    return part / whole if whole else (0.0 if part == 0 else float("inf"))
