"""The edge of the program: words in, exit status out, and every error a message.

Exit statuses: 0 it ran · 1 something the user can mend (`SkipgradError`) · 2 a command that does not parse ·
3 `--fail-on` was met · 4 `train` stopped early · 70 a bug · 75 `train` can go on · 130 Ctrl-C · 141 whoever read our
output went away.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from cyclopts import CycloptsError

from skipgrad.cli._app import make_app
from skipgrad.cli._terminal import say, words
from skipgrad.core.errors import SkipgradError
from skipgrad.core.plugins import LeftOut

MENDABLE, USAGE, BUG, INTERRUPTED, BROKEN_PIPE = 1, 2, 70, 130, 141

TRACEBACK = "SKIPGRAD_TRACEBACK"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the words after ``skipgrad``; those of the process when None.

    Returns:
        The exit status.
    """
    given = tuple(sys.argv[1:] if argv is None else argv)
    words.set(given)
    _make_writable()
    try:
        with warnings.catch_warnings():
            # Warnings of the libraries under a user's model (a renamed argument, a slow kernel) are not about what was
            # asked, and would break the progress display in two. Whoever wants them has `python -W`, which wins.
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            warnings.simplefilter("always", LeftOut)  # what was left out of another package is said, once
            warnings.showwarning = _shown(warnings.showwarning)
            status = make_app()(list(given))
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except CycloptsError as error:
        verb = next(iter(error.command_chain or ()), "")
        say(f"{error}\nsee: {' '.join(filter(None, ('skipgrad', verb, '--help')))}")
        return USAGE
    except SkipgradError as error:
        say(str(error))
        _traceback()
        return MENDABLE
    except KeyboardInterrupt as interrupt:
        # Whoever was interrupted says what it kept in notes (PEP 678).
        kept = "\n".join(getattr(interrupt, "__notes__", ())) or "nothing had been measured yet"
        say(f"interrupted\n{kept}")
        _traceback()
        return INTERRUPTED
    except BrokenPipeError:
        # Python would flush stdout once more at exit, and complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG, errno.EDQUOT):
            return _bug(error)
        say(f"writing the answer\n  received: {error.strerror}\n  to do:    make room, or send the output elsewhere")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python would flush stdout once more at exit
        return MENDABLE
    except SystemExit as stop:
        say(
            "running the code of the model or the data\n"
            f"  received: it ended the program, exit({stop.code!r})\n"
            "  to do:    take the call of exit() out of it"
        )
        _traceback()
        return MENDABLE
    except Exception as error:  # noqa: BLE001 – the last edge: what gets here is a bug of ours and is reported as one
        return _bug(error)


def _shown(other: Callable[..., None]) -> Callable[..., None]:
    """``warnings.showwarning`` that says in our words what was left out of another package."""

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, LeftOut):
            say(str(message))
        else:
            other(message, category, *where, **more)

    return show


def _bug(error: Exception) -> int:
    first = (str(error).splitlines() or [""])[0]
    hint = "" if os.environ.get(TRACEBACK) else f"; set {TRACEBACK}=1 to see where"
    say(f"unexpected {type(error).__name__}: {first} (a bug in skipgrad, please report it{hint})")
    _traceback()
    return BUG


def _make_writable() -> None:
    """A stdout that is closed is written to nowhere; one that lacks a character gets its code instead."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for as long as the program runs
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _traceback() -> None:
    if os.environ.get(TRACEBACK):
        traceback.print_exc()
