"""The one error root of the package.

Every message says what was being done, where, what was received and what to do about it.
"""

from __future__ import annotations


class SkipgradError(Exception):
    """Root of every error skipgrad raises for something the user can mend.

    Args:
        doing: what skipgrad was trying to do, e.g. ``"resolving the model 'foo:bar'"``.
        where: module path, file or option concerned.
        received: what came instead of what was needed (shape, dtype, value, message).
        todo: what the user can do about it.
    """

    def __init__(
        self,
        doing: str,
        *,
        where: str | None = None,
        received: str | None = None,
        todo: str | None = None,
    ) -> None:
        self.doing, self.where, self.received, self.todo = doing, where, received, todo
        lines = [doing]
        if where:
            lines.append(f"  where:    {where}")
        if received:
            lines.append(f"  received: {received}")
        if todo:
            lines.append(f"  to do:    {todo}")
        super().__init__("\n".join(lines))


class UnknownName(SkipgradError):
    """A name that is in no registry: a model, data set, remedy, check, claim or option."""


class BadInput(SkipgradError):
    """An argument of the wrong form: a shape, a number out of range, an option that does not parse."""


class ModelError(SkipgradError):
    """The user's model could not be built, or its forward raised."""


class DataError(SkipgradError):
    """The user's data could not be loaded, do not fit the model, or hold values that are not numbers."""


class MeasureError(SkipgradError):
    """The ledger cannot measure what it was asked to measure, and says so instead of reporting a zero."""


class RemedyRefused(SkipgradError):
    """A remedy does not apply to this model; the message is the reason."""


class RunFileError(SkipgradError):
    """A run file is missing, is not one, is damaged or has another schema version."""


class OutputError(SkipgradError):
    """The output folder or file cannot be written."""


class MissingExtra(SkipgradError):
    """An optional library is needed and is not installed."""
