"""What a kind of layer has to say for the gradient table, and which kind a layer is of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from skipgrad.core.errors import BadInput
from skipgrad.core.registry import Registry

DOING = "making the gradient table"

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Part:
    """One term of a formula: the way it came, as text, and its gradient."""

    path: str
    formula: str
    gradient: Tensor


def total(parts: tuple[Part, ...]) -> Tensor:
    """The sum of some terms."""
    first, *rest = (part.gradient for part in parts)
    for gradient in rest:
        first = first + gradient
    return first


class Kind(ABC):
    """The gradient of one kind of layer, by its formula.

    Formulas are texts with ``{g}`` where dL/dy stands. All methods read the layer's own mode (``layer.training``).
    """

    name: ClassVar[str]
    types: ClassVar[tuple[type[nn.Module], ...]]
    # Methods a subclass of `types` must have left as they are, else the formula need not be its own.
    methods: ClassVar[tuple[str, ...]] = ("forward",)

    @abstractmethod
    def formula(self, layer: Any) -> str:
        """The formula of dL/dx."""

    @abstractmethod
    def parts(self, layer: Any, x: Tensor, g: Tensor) -> tuple[Part, ...]:
        """The terms of dL/dx at x, written out; their sum is dL/dx. g is dL/dy."""

    def gradient(self, layer: Any, x: Tensor, g: Tensor) -> Tensor:
        """dL/dx at x: the sum of `parts`."""
        return total(self.parts(layer, x, g))

    def popular_formula(self, layer: Any) -> str | None:
        """The formula popular tables give, where it is another one in some mode; None where they are right."""
        return None

    def popular(self, layer: Any, x: Tensor, g: Tensor) -> Tensor | None:
        """What that formula gives."""
        return None

    def note(self, layer: Any) -> str:
        """A sentence on the symbols, or on when the formula holds; may be empty."""
        return ""

    def by_mode(self, layer: Any) -> bool:
        """Whether training and evaluation mode differ."""
        return False

    def inner(self, layer: Any) -> tuple[nn.Module, ...]:
        """The layers it is made of, where it is made of layers."""
        return ()

    def shape(self, layer: Any, out: Shape | None) -> Shape | None:
        """A shape of x that suits the layer and gives (about) ``out``; None where any will do."""
        return out

    def alone(self, layer: Any) -> Shape | None:
        """A shape of x where `shape` left it open."""
        return None


KINDS: Registry[Kind] = Registry("kind of layer")


def kind_of(layer: nn.Module, where: str = "") -> Kind:
    """The kind of a layer: of its class, or of the class whose forward it has inherited unchanged.

    Args:
        layer: the layer.
        where: what it is called, for the message.

    Raises:
        BadInput: a layer of no known kind, or made of such a layer.
    """
    for _, kind in KINDS.items():
        for base in kind.types:
            if isinstance(layer, base) and all(getattr(type(layer), m) is getattr(base, m) for m in kind.methods):
                for step in kind.inner(layer):
                    kind_of(step, where)
                return kind
    known = [t.__name__ for _, kind in KINDS.items() for t in kind.types]
    own = next((t.__name__ for _, k in KINDS.items() for t in k.types if isinstance(layer, t)), None)
    received = f"a {type(layer).__module__}.{type(layer).__qualname__}"
    raise BadInput(
        DOING,
        where=where or None,
        received=f"{received}, a {own} with a forward of its own" if own else f"{received}, a layer of an unknown kind",
        todo=f"pass layers of known kinds: {', '.join(known)}; of a model, pass those of its layers",
    )
