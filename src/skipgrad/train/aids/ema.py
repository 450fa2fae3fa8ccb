"""The running mean of the weights."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from skipgrad.core.errors import BadInput
from skipgrad.instrument.wrappers import unwrap


class EMA:
    """A copy of a model whose weights are a running mean of the model's: m ← d·m + (1−d)·w after each step.

    It is PyTorch's ``AveragedModel``. The first update copies the weights; buffers (a batch norm's statistics) are
    those of the model at the last update.

    Args:
        model: what is trained, wrapped or not.
        decay: d, in (0, 1); .999 for example.

    Raises:
        BadInput: another decay.

    Example:
        >>> ema = EMA(net, decay=0.999)                         # doctest: +SKIP
        >>> optimizer.step(); ema.update()                      # doctest: +SKIP
        >>> ema.model(x)                                        # doctest: +SKIP
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        if not isinstance(decay, int | float) or isinstance(decay, bool) or not 0 < decay < 1:
            raise BadInput("averaging weights", where="decay", received=repr(decay), todo="give a share such as 0.999")
        self._model = unwrap(model)
        self._average = AveragedModel(self._model, multi_avg_fn=get_ema_multi_avg_fn(decay))

    @property
    def model(self) -> nn.Module:
        """The copy with the mean of the weights."""
        return self._average.module

    def update(self) -> None:
        """Takes in the weights as they are now."""
        self._average.update_parameters(self._model)

    def state_dict(self) -> dict[str, Any]:
        """The mean, and how many updates it is of."""
        return self._average.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        self._average.load_state_dict(state)
