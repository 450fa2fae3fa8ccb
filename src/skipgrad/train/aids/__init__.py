"""What people use around deep nets, each piece alone in a loop of one's own: clipping, EMA, elastic net …"""

from skipgrad.train.aids.accumulate import Accumulate, shares
from skipgrad.train.aids.clipping import clip_adaptively
from skipgrad.train.aids.drops import DropRates
from skipgrad.train.aids.elastic import ElasticNet
from skipgrad.train.aids.ema import EMA

__all__ = ["EMA", "Accumulate", "DropRates", "ElasticNet", "clip_adaptively", "shares"]
