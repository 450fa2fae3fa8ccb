"""Optional libraries: one that is missing is named, with the extra that brings it."""

from __future__ import annotations

from types import TracebackType

from skipgrad.core.errors import MissingExtra


class wanted:
    """A block that imports optional libraries.

    Args:
        extra: of skipgrad, that brings them (``"wandb"``).
        doing: what they are wanted for, in the words of the error.

    Raises:
        MissingExtra: an import in the block found no such module.

    >>> with wanted("data", "loading the digits"):
    ...     import json
    """

    def __init__(self, extra: str, doing: str) -> None:
        self._extra, self._doing = extra, doing

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, ModuleNotFoundError):
            raise MissingExtra(
                self._doing,
                received=f"the library {error.name or 'it needs'!r} is not installed",
                todo=f"pip install 'skipgrad[{self._extra}]'",
            ) from error
