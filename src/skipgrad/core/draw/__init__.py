"""Pictures of a `SkipGraph`: SVG, Mermaid, DOT, and the notebook's HTML. No torch, nothing fetched."""

from skipgrad.core.draw.dot import dot
from skipgrad.core.draw.html import html
from skipgrad.core.draw.mermaid import mermaid
from skipgrad.core.draw.svg import svg

__all__ = ["dot", "html", "mermaid", "svg"]
