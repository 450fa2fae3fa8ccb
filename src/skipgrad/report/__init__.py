"""A run as a page or as terminal text, from the same parts. Imports no torch."""

from skipgrad.report.page import html, write_html
from skipgrad.report.parts import Parts, parts
from skipgrad.report.strip_svg import strip_svg
from skipgrad.report.terminal import terminal

__all__ = ["Parts", "html", "parts", "strip_svg", "terminal", "write_html"]
