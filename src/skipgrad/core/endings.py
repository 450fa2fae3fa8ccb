"""How a run ended: by itself, by whoever stopped it, or by an error."""

from __future__ import annotations

from typing import NamedTuple


class Ending(NamedTuple):
    """How a run ended, as its file says it.

    Attributes:
        state: ``"done"``, ``"interrupted"`` or ``"failed"``.
        error: type and message of what made it fail, in one line; empty when nothing did.
    """

    state: str
    error: str = ""

    def meta(self) -> dict[str, str]:
        """Its entries of `Run.meta`."""
        return {"state": self.state, "error": self.error} if self.error else {"state": self.state}


def ending(error: BaseException | None) -> Ending:
    """How a run ended, by the exception that ended it (None: by itself). Ctrl-C and ``exit()`` are interruptions."""
    if error is None:
        return Ending("done")
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
        return Ending("interrupted")
    message = " ".join(str(error).split())
    return Ending("failed", f"{type(error).__name__}: {message}" if message else type(error).__name__)
