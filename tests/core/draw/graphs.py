"""Graphs made by hand, of the sorts that are hard to draw: deep, dense, U-shaped, wide, empty, hostile."""

from __future__ import annotations

from dataclasses import replace

from skipgrad.core import Layer, Other, Skip, SkipGraph, Suggestion, Unknown

EVIL = '</title><script>alert("x")</script><!-- ]]> " \\" \' ; # %% {{7*7}} end\n--> `b` | [x] \x1b[31m \u202e \ud800'


def layer(name: str, stage: str = "", op: str = "conv2d", shape: tuple[int, ...] = (1, 8, 8, 8)) -> Layer:
    return Layer(name, op, shape, stage or name.split(".")[0])


def skip(name: str, start: int, end: int, kind: str = "add", **more: object) -> Skip:
    fields: dict[str, object] = {
        "shortcut": "identity", "long": False, "span": end - start, "fan_in": 2, "branches": (("a",),),
        "fork_shape": (1, 8, 8, 8), "merge_shape": (1, 8, 8, 8), "owner": name,
    }  # fmt: skip
    return Skip(name, kind, start=start, end=end, **{**fields, **more})  # type: ignore[arg-type]


def residual(blocks: tuple[int, ...] = (2, 2), convs: int = 2, model: str = "resnet") -> SkipGraph:
    """A ResNet: the first block of each stage but the first has a projection, which runs after the branch."""
    layers, skips = [layer("stem")], []
    for s, n in enumerate(blocks, 1):
        for b in range(n):
            name, start = f"layer{s}.{b}", len(layers)
            layers += [layer(f"{name}.conv{c + 1}") for c in range(convs)]
            more: dict[str, object] = {"span": convs, "previous": skips[-1].name if skips else None}
            if b == 0 and s > 1:
                layers.append(layer(f"{name}.down.0"))
                more |= {"shortcut": "projection", "shortcut_modules": (f"{name}.down.0", f"{name}.down.1")}
                more |= {"fork_shape": (1, 4, 16, 16)}
            skips.append(skip(name, start, len(layers), **more))
    layers.append(layer("fc", op="linear", shape=(1, 10)))
    return SkipGraph(tuple(skips), layers=tuple(layers), model=model)


def resnet152() -> SkipGraph:
    return residual((3, 8, 36, 3), 3, "resnet152")


def unet(depth: int = 3, convs: int = 2) -> SkipGraph:
    """A U-Net: long concats, one within the other; residual blocks below the outermost foot."""
    layers = [layer(f"down{d}.{c}") for d in range(depth) for c in range(convs)]
    layers += [layer(f"middle.{c}") for c in range(convs)]
    skips = [skip("down1", convs, 2 * convs)] if depth > 1 else []
    for d in reversed(range(depth)):
        skips.append(skip(f"up{d}", (d + 1) * convs, len(layers), "concat", long=True))
        layers += [layer(f"up{d}.{c}") for c in range(convs)]
    return SkipGraph(tuple(skips), layers=(*layers, layer("head")), model="unet")


def dense(n: int = 6) -> SkipGraph:
    layers = [layer("stem"), *(layer(f"block.{i}.conv{c}") for i in range(n) for c in (1, 2)), layer("head")]
    skips = [skip(f"block.{i}", 1 + 2 * i, 3 + 2 * i, "concat", fan_in=i + 2) for i in range(n)]
    return SkipGraph(tuple(skips), layers=tuple(layers), model="densenet")


def llama(blocks: int = 80) -> SkipGraph:
    """A decoder: seven linear layers a block, two skips."""
    parts = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
    parts += ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    layers, skips = [layer("model.embed_tokens", "model", "embedding")], []
    for b in range(blocks):
        name, start = f"model.layers.{b}", len(layers)
        layers += [layer(f"{name}.{p}", "model.layers", "linear", (1, 128, 8192)) for p in parts]
        skips += [skip(name, start, start + 4), skip(f"{name}#2", start + 4, start + 7)]
    return SkipGraph(tuple(skips), layers=(*layers, layer("lm_head", op="linear")), model="llama")


def every_kind() -> SkipGraph:
    """One skip of each kind, shortcuts of each look, and all the lists a graph can carry."""
    layers = tuple(layer(f"net.{i}") for i in range(10))
    skips = (
        skip("net.a", 0, 2),
        skip("net.b", 2, 4, "concat", fan_in=3, shortcut="slice", shortcut_ops=("getitem",)),
        skip("net.c", 4, 6, "gate"),
        skip("", 1, 8, "index", long=True),
        skip("net.d", 8, 10, shortcut="projection", shortcut_modules=("net.9",)),
    )
    return SkipGraph(
        skips,
        others=(Other("net", "parallel", "branches side by side"),),
        unknown=(Unknown("custom::warp", "", 2),),
        layers=layers,
        suggestions=(Suggestion("net.6", "net.7", 2, (1, 8), (1, 8), "identity", "no skip bridges these 2 layers"),),
        model="all of it",
        notes=("aux did not run",),
    )


def hostile() -> SkipGraph:
    """Every text from outside is an attack."""
    layers = tuple(Layer(f"{EVIL}{i}", EVIL, (1, 8), EVIL) for i in range(4))
    skips = (
        skip(EVIL, 0, 2, owner=EVIL, fork=EVIL),
        skip(f"{EVIL}#2", 2, 4, shortcut="projection", shortcut_modules=(EVIL,), shortcut_ops=(EVIL,)),
    )
    graph = replace(every_kind(), skips=skips, layers=layers, model=EVIL, notes=(EVIL,))
    return replace(
        graph,
        others=(Other(EVIL, "gate", EVIL),),
        unknown=(Unknown(EVIL, EVIL),),
        suggestions=(Suggestion(EVIL, EVIL, 2, (1,), (1,), "identity", EVIL),),
    )


EMPTY = SkipGraph(())
ALL = {
    "residual": residual(),
    "resnet152": resnet152(),
    "unet": unet(),
    "dense": dense(),
    "llama": llama(),
    "every_kind": every_kind(),
    "hostile": hostile(),
    "empty": EMPTY,
    "plain": replace(residual(), skips=()),
}
