"""What autograd keeps for a backward: by the graph, and by what is alive."""

from __future__ import annotations

from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile


def saved_bytes(model: nn.Module, x: Tensor) -> int:
    """Bytes of memory that the graph of a forward holds, weights left out, each piece of memory once.

    Found by walking the graph, so that what hooks put in the place of a saved tensor counts, and what they do away with
    does not.
    """
    weights = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}
    held: dict[int, int] = {}
    front, seen = [model(x).grad_fn], set()
    while front:
        node = front.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        front += [n for n, _ in node.next_functions]
        for t in _tensors(node):
            memory = t.untyped_storage()
            if memory.data_ptr() not in weights:
                held[memory.data_ptr()] = memory.nbytes()
    return sum(held.values())


def _tensors(node: object) -> list[Tensor]:
    kept = list(getattr(node, "saved_tensors", ()))
    for name in dir(node):
        if name.startswith("_raw_saved_"):
            raw = getattr(node, name)
            for one in raw if isinstance(raw, list | tuple) else [raw]:
                data = getattr(one, "data", None)
                again = getattr(data, "again", None)
                kept += again.parts if again is not None else [data] if isinstance(data, Tensor) else []
    return [t for t in kept if isinstance(t, Tensor)]


def live_bytes(model: nn.Module, x: Tensor) -> int:
    """Bytes of torch's tensors that a forward leaves alive, from torch's own account of its CPU memory."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as told:
        out = model(x)
    assert out.grad_fn is not None
    events = told.profiler.kineto_results.events()  # type: ignore[union-attr]
    return sum(event.nbytes() for event in events if event.name() == "[memory]")
