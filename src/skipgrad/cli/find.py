"""``skipgrad find``: every skip connection of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from skipgrad.cli._options import InputShape, Json, ModelArgs, ModelRef, flag, input_shape, model_args
from skipgrad.cli._tables import graph_text, show_graph
from skipgrad.cli._terminal import answer_console, print_json, say, stdout_is_ours
from skipgrad.core.draw import dot, mermaid, svg
from skipgrad.core.errors import BadInput
from skipgrad.core.files import write_text

Name = Literal["table", "json", "mermaid", "dot", "svg"]
Format = Annotated[
    Name | None,
    Parameter(help="table (when not given), json, or a drawing: mermaid, dot (Graphviz), svg"),
]
RulesRef = Annotated[
    str | None,
    Parameter(help="your own rules: file.py:callable or package.module:callable that returns skipgrad.Rules"),
]
Out = Annotated[Path | None, Parameter(help="write the answer to this file; one that is there is replaced")]
Suggest = Annotated[
    bool, flag("also list where a skip could be added, and the shortcuts that are not clean, with reasons")
]


def find(
    model: ModelRef,
    /,
    *,
    input: InputShape = None,
    model_arg: ModelArgs = None,
    format: Format = None,
    json: Json = False,
    rules: RulesRef = None,
    out: Out = None,
    suggest: Suggest = False,
) -> int:
    """List every skip connection in MODEL, or draw them; no weights needed."""
    chosen = _format(format, json, suggest)
    shape, args = input_shape(input), model_args(model_arg)

    # Deferred: torch takes a second, and `skipgrad --help` has half of one. See README.md here.
    from skipgrad.finder import NO_RULES, find_built
    from skipgrad.finder.forms import told
    from skipgrad.models import resolve_model, resolve_rules

    with stdout_is_ours():
        source = resolve_model(model, args)
        own = NO_RULES if rules is None else resolve_rules(rules)
        graph = find_built(source.build, lambda device: source.example(shape, device), label=model, rules=own)
    forms = told(graph) if chosen == "table" else []
    if chosen == "table" and out is None:
        show_graph(graph, answer_console(rows=True), model, suggest=suggest, forms=forms)
        return 0
    if chosen == "table":
        text = graph_text(graph, model, suggest=suggest, forms=forms)
    elif chosen == "json":
        text = graph.to_json()
    else:
        text = {"mermaid": mermaid, "dot": dot, "svg": svg}[chosen](graph)
    text = text.rstrip("\n")
    if out is None:
        print_json(text)
    else:
        write_text(out, text + "\n", doing=f"writing the {chosen} of {model}")
        say(f"wrote {out}")
    return 0


def _format(format: Name | None, json: bool, suggest: bool) -> Name:
    """The one format that was asked for.

    Raises:
        BadInput: two that differ, or suggestions where they have no place.
    """
    if json and format not in (None, "json"):
        raise BadInput(
            "reading the options of find",
            where="--json, --format",
            received=f"--json and --format {format}, which differ",
            todo="give one of them; --json is short for --format json",
        )
    chosen: Name = "json" if json else format or "table"
    if suggest and chosen in ("mermaid", "dot", "svg"):
        raise BadInput(
            "reading the options of find",
            where="--suggest",
            received=f"--suggest with --format {chosen}, which has no place for suggestions",
            todo="leave one of them out; the table shows them, and the JSON holds them always",
        )
    return chosen
