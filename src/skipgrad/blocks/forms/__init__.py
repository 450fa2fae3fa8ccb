"""Every form of skip connection, as modules that wrap any branch."""

from skipgrad.blocks.forms.admin import Admin, profile
from skipgrad.blocks.forms.attention_residual import AttentionResidual
from skipgrad.blocks.forms.deepnorm import DeepNorm
from skipgrad.blocks.forms.dense import Dense
from skipgrad.blocks.forms.denseformer import DenseFormer
from skipgrad.blocks.forms.fixup import Fixup
from skipgrad.blocks.forms.fpn import FPN
from skipgrad.blocks.forms.highway import Highway
from skipgrad.blocks.forms.hyper_connections import HyperConnection, HyperConnections
from skipgrad.blocks.forms.keel import Keel
from skipgrad.blocks.forms.laurel import Laurel
from skipgrad.blocks.forms.layerscale import LayerScale
from skipgrad.blocks.forms.long_concat import LongSkip
from skipgrad.blocks.forms.mhc import ManifoldHyperConnection, ManifoldHyperConnections, sinkhorn, sinkhorn_residual
from skipgrad.blocks.forms.nfnet import NFNet
from skipgrad.blocks.forms.preact import PreAct
from skipgrad.blocks.forms.projection import Projection
from skipgrad.blocks.forms.registry import FORMS, FormEntry, Seen
from skipgrad.blocks.forms.residual import Residual
from skipgrad.blocks.forms.reversible import Reversible, ReversibleSequence
from skipgrad.blocks.forms.rezero import ReZero
from skipgrad.blocks.forms.scalelong import ScaleLong
from skipgrad.blocks.forms.segnet import IndexSkip
from skipgrad.blocks.forms.skipinit import SkipInit
from skipgrad.blocks.forms.stochastic_depth import StochasticDepth
from skipgrad.blocks.forms.value_residual import ValueResidual

__all__ = [
    "FORMS",
    "FPN",
    "Admin",
    "AttentionResidual",
    "DeepNorm",
    "Dense",
    "DenseFormer",
    "Fixup",
    "FormEntry",
    "Highway",
    "HyperConnection",
    "HyperConnections",
    "IndexSkip",
    "Keel",
    "Laurel",
    "LayerScale",
    "LongSkip",
    "ManifoldHyperConnection",
    "ManifoldHyperConnections",
    "NFNet",
    "PreAct",
    "Projection",
    "ReZero",
    "Residual",
    "Reversible",
    "ReversibleSequence",
    "ScaleLong",
    "Seen",
    "SkipInit",
    "StochasticDepth",
    "ValueResidual",
    "profile",
    "sinkhorn",
    "sinkhorn_residual",
]
