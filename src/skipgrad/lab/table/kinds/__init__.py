"""The kinds of layer a gradient table knows, one file each."""

from skipgrad.lab.table.kinds.activations import ReLU, Sigmoid, Tanh
from skipgrad.lab.table.kinds.composed import Around, Chain
from skipgrad.lab.table.kinds.convolution import Convolution
from skipgrad.lab.table.kinds.kind import KINDS, Kind, Part, kind_of
from skipgrad.lab.table.kinds.linear import Linear
from skipgrad.lab.table.kinds.norms import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm

for _kind in (
    Convolution(),
    Around(),
    BatchNorm(),
    Linear(),
    LayerNorm(),
    GroupNorm(),
    InstanceNorm(),
    RMSNorm(),
    ReLU(),
    Sigmoid(),
    Tanh(),
    Chain(),
):
    KINDS.register(_kind.name, _kind)

__all__ = ["KINDS", "Kind", "Part", "kind_of"]
