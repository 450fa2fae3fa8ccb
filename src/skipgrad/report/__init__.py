"""A run as a page or as terminal text, from the same parts; live while it is made (live/). Imports no torch."""

from typing import TYPE_CHECKING

from skipgrad._lazy import handed_on

if TYPE_CHECKING:
    from skipgrad.report.console import terminal
    from skipgrad.report.document import Parts, parts
    from skipgrad.report.explain import explained
    from skipgrad.report.page import html, write_html
    from skipgrad.report.strip_picture import strip_svg

__all__ = ["Parts", "explained", "html", "parts", "strip_svg", "terminal", "write_html"]

# Figures and templates take half a second to load, which a live view in a terminal need not wait for.
__getattr__, __dir__ = handed_on(
    __name__,
    {
        "Parts": "skipgrad.report.document",
        "explained": "skipgrad.report.explain",
        "html": "skipgrad.report.page",
        "parts": "skipgrad.report.document",
        "strip_svg": "skipgrad.report.strip_picture",
        "terminal": "skipgrad.report.console",
        "write_html": "skipgrad.report.page",
    },
)
