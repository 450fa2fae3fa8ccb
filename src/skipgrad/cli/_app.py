"""The verbs and how they are found. Light: nothing here, nor at the top of a verb's file, imports torch."""

from __future__ import annotations

from cyclopts import App

from skipgrad._version import __version__
from skipgrad.cli import boost, check, export, find, lab, report, train, watch
from skipgrad.cli._options import OWN
from skipgrad.cli._terminal import Answer
from skipgrad.models import DATA, LIBRARIES

_OWN = " or ".join(OWN)
EPILOGUE = f"MODEL is {', '.join(LIBRARIES.refs)}, {_OWN}. DATA is {', '.join(DATA.refs)}, {_OWN}."


def make_app() -> App:
    """The command line, ready to be called with a list of words."""
    app = App(
        name="skipgrad",
        help="Find every skip connection in a PyTorch model, measure the gradient through it, say what is wrong, "
        "try the cure.",
        help_epilogue=EPILOGUE,
        help_format="plaintext",
        version=__version__,
        version_flags=["--version"],
        console=Answer(),
        # main() turns Ctrl-C, errors and results into exit statuses, in one place.
        suppress_keyboard_interrupt=False,
        exit_on_error=False,
        print_error=False,
        verbose=False,
        result_action="return_value",
    )
    verbs = (find.find, check.check, boost.boost, train.train, lab.lab, watch.watch, report.report, export.export)
    for order, verb in enumerate(verbs):
        # Verbs without a MODEL say nothing about models below their options.
        epilogue = "" if verb in (lab.lab, watch.watch, report.report, export.export) else None
        app.command(verb, sort_key=order, help_epilogue=epilogue)
    return app
