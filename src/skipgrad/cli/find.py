"""``skipgrad find``: every skip connection of a model."""

from __future__ import annotations

from skipgrad.cli._options import InputShape, Json, ModelArgs, ModelRef, input_shape, model_args
from skipgrad.cli._tables import show_graph
from skipgrad.cli._terminal import answer_console, print_json, stdout_is_ours


def find(model: ModelRef, /, *, input: InputShape = None, model_arg: ModelArgs = None, json: Json = False) -> int:
    """List every skip connection in MODEL; no weights needed."""
    shape, args = input_shape(input), model_args(model_arg)

    # Deferred: torch takes a second, and `skipgrad --help` has half of one. See README.md here.
    from skipgrad.finder import find_built
    from skipgrad.models import resolve_model

    with stdout_is_ours():
        source = resolve_model(model, args)
        graph = find_built(source.build, lambda device: source.example(shape, device), label=model)
    if json:
        print_json(graph.to_json())
    else:
        show_graph(graph, answer_console(rows=True), model)
    return 0
