"""The kinds of layer a gradient table knows, one file each."""

from skipgrad.probes.table.kinds.activations import ReLU, Sigmoid, Tanh
from skipgrad.probes.table.kinds.composed import Around, Chain
from skipgrad.probes.table.kinds.convolution import Convolution
from skipgrad.probes.table.kinds.kind import KINDS, Kind, Part, kind_of
from skipgrad.probes.table.kinds.linear import Linear
from skipgrad.probes.table.kinds.norms import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm

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
