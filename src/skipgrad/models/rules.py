"""``file.py:callable`` and ``package.module:callable`` as a user's own rules for the finder."""

from __future__ import annotations

from skipgrad.core import BadInput, SkipgradError
from skipgrad.finder import Rules
from skipgrad.models.importing import import_callable


def resolve_rules(ref: str) -> Rules:
    """The rules a reference names.

    Args:
        ref: of something that returns a `Rules` when it is called without arguments.

    Raises:
        UnknownName: no such file, module or callable.
        BadInput: it raises, or returns something else.
    """
    make = import_callable(ref, "rules", BadInput, ())
    doing = f"resolving the rules {ref!r}"
    try:
        rules = make()
    except SkipgradError:
        raise
    except Exception as error:
        raise BadInput(
            doing, received=f"it raised {type(error).__name__}: {error}", todo="mend it, or name another callable"
        ) from error
    if not isinstance(rules, Rules):
        raise BadInput(doing, received=f"it returned {type(rules).__name__}", todo="return a skipgrad.Rules(…)")
    return rules
