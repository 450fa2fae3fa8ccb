"""The ways people write and wrap models: find sees the same skip in all of them."""

from __future__ import annotations

import functools
import warnings
from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import skipgrad as sg
from skipgrad.core import ModelError, SkipGraph
from skipgrad.finder import find_in_call

X = torch.linspace(-1, 1, 16).reshape(2, 8)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(F.relu(self.a(x)))


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(), Block())

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.c(x)).clone()
        y += x
        return F.relu_(y)


class One(nn.Module):
    """A module with one linear layer `f` and a forward of one's choice."""

    def __init__(self, forward: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.f = nn.Linear(8, 8)
        self.how = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.how(self, *args, **kwargs)


def brief(graph: SkipGraph) -> list[tuple[str, str, str, tuple[tuple[str, ...], ...]]]:
    return [(s.name, s.kind, s.shortcut, s.branches) for s in graph]


TWO = [
    ("blocks.0", "add", "identity", (("blocks.0.a", "blocks.0.b"),)),
    ("blocks.1", "add", "identity", (("blocks.1.a", "blocks.1.b"),)),
]
ONE = [("root", "add", "identity", (("f",),))]


# -- forms of a model ------------------------------------------------------------------------------


def traced(model: nn.Module, *x: Tensor) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; people have files of it all the same
        return torch.jit.trace(model, x)


def scripted(model: nn.Module) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(model)


@pytest.mark.parametrize("form", [scripted, lambda m: traced(m, X)], ids=["script", "trace"])
def test_torchscript(form: Callable[[nn.Module], Any]) -> None:
    graph = sg.find(form(Two()), X)
    assert brief(graph) == TWO
    assert (graph.how, graph.model, graph.unknown) == ("real", "Two", ())


def test_torchscript_with_changes_in_place_leaves_the_buffers() -> None:
    x = torch.rand(2, 3, 8, 8)
    program = traced(InPlace(), x).train()
    before = {k: v.clone() for k, v in program.state_dict().items()}
    assert brief(sg.find(program, x)) == [("root", "add", "identity", (("c", "bn"),))]
    assert all(torch.equal(v, before[k]) for k, v in program.state_dict().items())


def test_a_scripted_part_of_a_model() -> None:
    graph = sg.find(nn.Sequential(nn.Linear(8, 8), scripted(Two()), Block()), X)
    assert [s.name for s in graph] == ["1.blocks.0", "1.blocks.1", "2"]


def test_a_scripted_function() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fused = torch.jit.script(_add_relu)
    model = One(lambda self, x: fused(x, self.f(x)))
    assert brief(sg.find(model, X)) == ONE
    assert brief(find_in_call(model, (X,), {}, how="real")) == ONE


def _add_relu(x: Tensor, y: Tensor) -> Tensor:
    return x + F.relu(y) * 2


@pytest.mark.parametrize("part", [lambda p: p, lambda p: p.module()], ids=["program", "module"])
def test_an_exported_program_keeps_its_names(part: Callable[[Any], Any]) -> None:
    assert brief(sg.find(part(torch.export.export(Two(), (X,))), X)) == TWO


def test_an_exported_program_in_place() -> None:
    x = torch.rand(2, 3, 8, 8)
    graph = sg.find(torch.export.export(InPlace(), (x,)), x)
    assert brief(graph) == [("root", "add", "identity", (("c", "bn"),))]


def test_a_decomposed_program_and_a_frozen_script() -> None:
    x = torch.rand(2, 3, 8, 8)
    program = torch.export.export(InPlace().eval(), (x,)).run_decompositions()
    graph = sg.find(program, x)
    assert [(s.kind, s.shortcut) for s in graph] == [("add", "identity")]
    assert graph.unknown == ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frozen = torch.jit.freeze(torch.jit.script(Two().eval()))
    graph = sg.find(frozen, X)  # its weights are constants of the program now
    assert len(graph) == 0
    assert any("no learned tensor" in n for n in graph.notes)


def test_an_fx_graph() -> None:
    assert brief(sg.find(torch.fx.symbolic_trace(Two()), X)) == TWO


def test_compiled_modules_and_parts() -> None:
    whole, inside, called = Two(), Two(), Two()
    inside.blocks[0] = torch.compile(inside.blocks[0], backend="eager")  # type: ignore[assignment]
    called.compile(backend="eager")
    assert brief(sg.find(torch.compile(whole, backend="eager"), X)) == TWO
    assert brief(sg.find(called, X)) == TWO
    assert [s.name.replace("._orig_mod", "") for s in sg.find(inside, X)] == ["blocks.0", "blocks.1"]


# -- things that are no modules --------------------------------------------------------------------


def test_functions_methods_partials_and_objects() -> None:
    model = Two()

    class Owner:
        def __init__(self) -> None:
            self.net = model

        def __call__(self, x: Tensor) -> Tensor:
            return self.net(x)

    around = sg.find(lambda x: x + model(x), X)
    assert [(s.name, s.long) for s in around] == [("model.blocks.0", False), ("model.blocks.1", False), ("root", True)]
    assert around["root"].branches == (tuple(f"model.blocks.{k}.{p}" for k in (0, 1) for p in "ab"),)
    assert brief(sg.find(model.forward, X)) == TWO
    assert [s.name for s in sg.find(Owner(), X)] == ["net.blocks.0", "net.blocks.1"]
    scaled = One(lambda self, x, k: x + self.f(x) * k)
    assert len(sg.find(functools.partial(scaled, k=2.0), X)) == 1


def test_another_method_of_a_module_keeps_its_names() -> None:
    class Encoder(Two):
        def encode(self, x: Tensor) -> Tensor:
            return self.blocks[0](x)

    model = Encoder()
    graph = sg.find(model.encode, X)
    assert brief(graph) == TWO[:1]
    assert graph.model == "Encoder.encode"
    assert "forward" not in vars(model)


def test_a_function_of_bare_parameters() -> None:
    weight = nn.Parameter(torch.eye(8))
    assert len(sg.find(lambda x: x + x @ weight, X)) == 1


def test_parameters_nobody_registered_are_learned_and_noted() -> None:
    model = One(lambda self, x: x + F.linear(x, self.hidden[0]), hidden=[nn.Parameter(torch.eye(8))])
    graph = sg.find(model, X)
    assert len(graph) == 1
    assert any("no module has registered" in n for n in graph.notes)


# -- what goes in and comes out --------------------------------------------------------------------


@dataclass
class Batch:
    x: Tensor
    scale: float = 1.0


@dataclass(frozen=True)
class Frozen:
    x: Tensor


@pytest.mark.parametrize(
    ("given", "take"),
    [
        (Batch(X), lambda b: b.x),
        (Frozen(X), lambda b: b.x),
        (UserDict(x=X), lambda b: b["x"]),
        ({"x": [X, (X, None)]}, lambda b: b["x"][1][0]),
    ],
    ids=["dataclass", "frozen", "userdict", "nested"],
)
def test_inputs_and_outputs_of_any_structure(given: Any, take: Callable[[Any], Tensor]) -> None:
    def forward(self: Any, batch: Any) -> Any:
        x = take(batch)
        return {"out": (Batch(x + self.f(x)),)}

    graph = sg.find(One(forward), given)
    assert (brief(graph), graph.how) == (ONE, "meta")
    assert brief(sg.find(One(lambda self, *, batch: forward(self, batch)), batch=given)) == ONE


# -- what happens inside ---------------------------------------------------------------------------


class Straight(torch.autograd.Function):
    """An identity with a backward of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
        return g


class Hidden(torch.autograd.Function):
    """Computes where torch does not see it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy() * 2)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
        return g * 2


def test_custom_autograd_functions() -> None:
    assert brief(sg.find(One(lambda self, x: Straight.apply(x) + self.f(x)), X)) == ONE
    graph = sg.find(One(lambda self, x: x + Hidden.apply(self.f(x))), X)
    assert brief(graph) == ONE
    assert graph.how == "real"
    assert [(u.op, u.module) for u in graph.unknown] == [("Hidden", "")]
    # On the shortcut it is not known to be linear, so there is no skip, and the op is named.
    graph = sg.find(One(lambda self, x: Hidden.apply(x) + self.f(x)), X)
    assert brief(graph) == []
    assert [u.op for u in graph.unknown] == ["Hidden"]
    x = X.clone().requires_grad_()
    Hidden.apply(x).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.full_like(X, 2.0))  # the class is as it was


def test_einops() -> None:
    einops = pytest.importorskip("einops")
    from einops.layers.torch import Rearrange

    def forward(self: Any, x: Tensor) -> Tensor:
        heads = einops.rearrange(x, "b (h d) -> b h d", h=2)
        return einops.rearrange(heads + self.r(self.f(x)), "b h d -> b (h d)")

    assert brief(sg.find(One(forward, r=Rearrange("b (h d) -> b h d", h=2)), X)) == ONE


def test_writing_into_slices() -> None:
    def assigned(self: Any, x: Tensor) -> Tensor:
        y = x.clone()
        y[:, 2:] += self.f(x)[:, 2:]
        return y

    def through_a_view(self: Any, x: Tensor) -> Tensor:
        y = x * 1
        y[:, 2:].add_(self.f(x)[:, 2:])
        return y

    for forward in (assigned, through_a_view):
        assert [(s.kind, s.shortcut) for s in sg.find(One(forward), X)] == [("add", "slice")]


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_branches(reentrant: bool) -> None:
    model = One(lambda self, x: x + checkpoint(self.f, x, use_reentrant=reentrant))
    assert brief(sg.find(model, X.clone().requires_grad_())) == ONE


def test_a_vmapped_branch() -> None:
    assert brief(sg.find(One(lambda self, x: x + torch.vmap(self.f)(x)), X)) == ONE


def test_a_model_that_calls_itself() -> None:
    def forward(self: Any, x: Tensor, depth: int = 2) -> Tensor:
        return x if depth == 0 else x + self.f(self(x, depth - 1))

    graph = sg.find(One(forward), X)
    assert [(s.name, s.span) for s in graph] == [("root", 1), ("root#2", 2)]


def test_control_flow_by_value_falls_back_and_says_so() -> None:
    graph = sg.find(One(lambda self, x: x + self.f(x) if x.sum() > -1e9 else x), X)
    assert (brief(graph), graph.how) == (ONE, "real")
    assert [n.split(":")[0] for n in graph.notes] == [
        "could not be traced on meta tensors",
        "could not be traced on fake tensors",
    ]


def test_parametrized_weights_keep_their_owner() -> None:
    model = Two()
    nn.utils.parametrizations.weight_norm(model.get_submodule("blocks.0.a"))
    nn.utils.parametrizations.spectral_norm(model.get_submodule("blocks.1.a"))
    assert brief(sg.find(model, X)) == TWO


def test_quantized_layers_are_listed_as_not_understood() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            quantized = torch.ao.quantization.quantize_dynamic(Two(), {nn.Linear})
        except RuntimeError as error:
            pytest.skip(f"this torch has no quantized engine: {error}")
    graph = sg.find(quantized, X)
    assert {u.op for u in graph.unknown} == {"linear_dynamic"}
    assert {u.module for u in graph.unknown} == {f"blocks.{k}.{p}" for k in (0, 1) for p in "ab"}


def test_lazy_modules_stay_lazy() -> None:
    model = One(lambda self, x: x + self.g(x), g=nn.LazyLinear(8))
    assert [s.branches for s in sg.find(model, X)] == [(("g",),)]
    assert isinstance(model.g, nn.LazyLinear)
    with pytest.raises(ModelError, match="lazy"):
        sg.find(model, X.to("meta"))


# -- modes -----------------------------------------------------------------------------------------


def test_models_that_only_train_or_only_evaluate() -> None:
    def only(mode: bool) -> Callable[..., Tensor]:
        def forward(self: Any, x: Tensor) -> Tensor:
            if self.training != mode:
                raise RuntimeError("not in this mode")
            return x + self.f(x)

        return forward

    for mode, words in ((True, "evaluation"), (False, "training")):
        model = One(only(mode)).train(not mode)
        model.f.train(mode)
        graph = sg.find(model, X)
        assert (brief(graph), graph.training) == (ONE, mode)
        assert any(f"raised in {words} mode (RuntimeError: not in this mode)" in n for n in graph.notes)
        assert (model.training, model.f.training) == (not mode, mode)


def test_a_forward_that_fails_in_both_modes_tells_of_the_mode_it_is_in() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        raise RuntimeError("training" if self.training else "evaluation")

    with pytest.raises(ModelError, match="RuntimeError: evaluation"):
        sg.find(One(forward).eval(), X)


# -- shortcuts the tracer takes --------------------------------------------------------------------


def test_the_shapes_told_without_torch_are_torchs() -> None:
    class Norms(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.b, self.g, self.l = nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm([4, 6, 6])
            self.d = nn.Dropout(0.3)

        def forward(self, x: Tensor) -> Tensor:
            y = F.gelu(self.d(self.l(self.g(self.b(x)))))
            return F.scaled_dot_product_attention(y, y, y, dropout_p=0.1, is_causal=True)

    x = torch.rand(2, 4, 6, 6)
    nodes = {
        how: [(n.op, n.cls, n.role, n.shape, n.dtype, n.args, n.call) for n in graph.found.trace.nodes]
        for how in ("real", "")
        for graph in [find_in_call(Norms(), (x,), {}, how=how)]
    }
    assert nodes["real"] == nodes[""]


@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_cells_too(cell: type[nn.Module], both_ways: bool) -> None:
    model = cell(8, 6, num_layers=2, batch_first=True, bidirectional=both_ways)
    told = [
        [(n.op, n.cls, n.role, n.shape, n.dtype, n.args, n.call) for n in graph.found.trace.nodes]
        for how in ("real", "")
        for graph in [find_in_call(model, (torch.rand(2, 5, 8),), {}, how=how)]
    ]
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        (nn.BatchNorm2d(4), (2, 3, 5, 5), "3"),
        (nn.BatchNorm1d(4), (1, 4), "more than 1 value per channel"),
        (nn.LayerNorm(4), (2, 5), "normalized_shape"),
        (nn.GroupNorm(2, 4), (2, 6, 3), "weight"),
    ],
    ids=["batch", "one value", "layer", "group"],
)
def test_norms_that_would_raise_do_so(layer: nn.Module, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        find_in_call(layer, (torch.zeros(shape),), {})


def test_nothing_is_left_of_the_hooks() -> None:
    hooks, apply = torch.nn.modules.module, torch.autograd.Function.__dict__["apply"]
    sg.find(Two(), X)
    with pytest.raises(ModelError):
        sg.find(Two(), X[:, :3])
    assert not hooks._has_any_global_hook()
    assert torch.autograd.Function.__dict__["apply"] is apply
