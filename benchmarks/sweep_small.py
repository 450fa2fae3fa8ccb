"""Configurations of transformers that a sweep tries where the default one does not run: fewer layers, values filled in,
smaller widths.

A default configuration is not always one that runs: some leave None where a number is needed, or were written for a
checkpoint that sets the rest. A model that looks at values has to be run for real, and default widths take more memory
than there is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_LAYERS = (
    "num_hidden_layers", "num_layers", "n_layer", "n_layers", "num_decoder_layers", "encoder_layers", "decoder_layers",
    "num_encoder_layers", "depth", "num_hidden_groups", "n_head_layers",
)  # fmt: skip
# Where a default is None and a number is needed. Only arguments the configuration has.
_NUMBERS = {
    "vocab_size": 1000, "prediction_length": 8, "num_experts_per_tok": 2, "n_routed_experts": 4, "num_experts": 4,
    "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "pad_token_id": 0, "moe_topk": 1, "pretraining_tp": 1,
    "moe_intermediate_size": 64, "num_local_experts": 4, "image_token_id": 5, "image_token_index": 5,
    "video_token_index": 6, "video_token_id": 6, "context_length": 16,
}  # fmt: skip
# Divided by one number all over the tree of configurations, so that what fitted still fits; heads too, so that the
# size of a head, which rotary embeddings are made for, stays.
_WIDTHS = (
    "hidden_size", "d_model", "n_embd", "dim", "embed_dim", "intermediate_size", "ffn_dim", "encoder_ffn_dim",
    "decoder_ffn_dim", "n_inner", "d_ff", "out_hidden_size", "moe_intermediate_size", "ffn_hidden_size",
    "shared_expert_intermediate_size", "text_hidden_size", "mm_hidden_size", "projection_dim", "mm_embed_dim",
    "backbone_hidden_size", "embedding_size", "expert_ffn_hidden_size",
)  # fmt: skip
_HEADS = (
    "num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads", "decoder_attention_heads",
    "attention_heads",
)  # fmt: skip
_KEYS = ("num_key_value_heads", "num_kv_heads", "kv_n_heads", "num_key_value_groups")
_EXPERTS = ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts", "num_routed_experts")
_MOST_EXPERTS = 32


def alternatives(model_type: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What to try where the default configuration, with two layers or all, does not run: a word for it, its arguments.

    Args:
        model_type: as transformers names it.
    """
    import transformers

    config_class = transformers.CONFIG_MAPPING[model_type]
    config = config_class()
    few = fewer_layers(config)
    seen: list[dict[str, Any]] = [few]
    filled = merged(few, missing(config))
    every = missing(config)
    mixed = merged(filled, _mixed_layers(config))
    for word, args in (
        ("filled in", filled),
        ("filled in", merged(mixed, _rotary(config))),
        ("", {}),
        ("small", merged(filled, narrower(config))),
        ("small", merged(mixed, merged(narrower(config), _rotary(config)))),
        ("filled in", every),
        ("small", merged(every, narrower(config))),
    ):
        if args not in seen:
            seen.append(args)
            yield word, args


def fewer_layers(config: Any) -> dict[str, Any]:
    """Arguments for two layers wherever a configuration has a number of layers, in nested ones too."""
    args: dict[str, Any] = {}
    for name in _LAYERS:
        value = getattr(config, name, None)
        real = config.attribute_map.get(name, name)  # ConvNeXt says num_hidden_layers for its stages
        if isinstance(value, int) and _number(value) and value > 2 and "stage" not in real:
            args[real] = 2
    return _with_inner(config, args, fewer_layers)


def missing(config: Any) -> dict[str, Any]:
    """Arguments for the numbers a configuration leaves open."""
    args: dict[str, Any] = {name: number for name, number in _NUMBERS.items() if _value(config, name, number) is None}
    hidden, heads = _get(config, "hidden_size"), _get(config, "num_attention_heads")
    if hidden and heads:
        for name, number in (("head_dim", hidden // heads), ("num_key_value_heads", heads)):
            if _value(config, name, number) is None:
                args[name] = number
        if getattr(config, "is_encoder_decoder", False) and not hasattr(config, "num_key_value_heads"):
            args["num_key_value_heads"] = heads
    if getattr(config, "use_cache", False):
        args["use_cache"] = False  # a cache reads numbers that some configurations do not have
    return _with_inner(config, args, missing)


def narrower(config: Any) -> dict[str, Any]:
    """Arguments that make all widths smaller by one factor, and experts few."""
    numbers = list(_numbers(config))
    for factor in (16, 8, 4, 3, 2):
        if all(n % factor == 0 for n in numbers):
            return _divided(config, factor)
    return _divided(config, 1)


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Both sets of arguments, nested ones too; of two values the second."""
    both = dict(first)
    for name, value in second.items():
        old = both.get(name)
        both[name] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return both


def _numbers(config: Any) -> Iterator[int]:
    for name in (*_WIDTHS, *_HEADS):
        if "intermediate" not in name and (value := _get(config, name)):
            yield value
    for inner in _inner(config).values():
        yield from _numbers(inner)


def _divided(config: Any, factor: int) -> dict[str, Any]:
    args: dict[str, Any] = {}
    for name in (*_WIDTHS, *_HEADS, *_KEYS):
        value = _get(config, name)
        if value and (factor > 1 or "intermediate" in name):
            args[config.attribute_map.get(name, name)] = max(1, value // factor)
            if "intermediate" in name:  # met by nothing outside; grouped products want multiples of 16 bytes
                args[config.attribute_map.get(name, name)] = max(16, value // factor // 16 * 16)
    for name in _EXPERTS:
        value = _get(config, name)
        if value and value > _MOST_EXPERTS:
            args[config.attribute_map.get(name, name)] = _MOST_EXPERTS
    if (_get(config, "num_queries") or 0) > 100:
        args["num_queries"] = 100  # no more than a small picture has places
    if _get(config, "encoder_hash_byte_group_vocab"):
        args["encoder_hash_byte_group_vocab"] = 1000
    return _with_inner(config, args, lambda inner: _divided(inner, factor))


def _rotary(config: Any) -> dict[str, Any]:
    """Sections of a rotary embedding in three directions that add up to half a head."""
    args: dict[str, Any] = {}
    hidden, heads = _get(config, "hidden_size"), _get(config, "num_attention_heads")
    if hidden and heads and hasattr(config, "rope_parameters") and _get(config, "vocab_size"):
        half = (_get(config, "head_dim") or hidden // heads) // 2
        side = 3 * half // 8
        args["rope_parameters"] = {
            "rope_type": "default", "rope_theta": 10000.0, "mrope_section": [half - 2 * side, side, side],
        }  # fmt: skip
    return _with_inner(config, args, _rotary)


def _mixed_layers(config: Any) -> dict[str, Any]:
    """One layer of each kind a configuration mixes: the first two need not show both."""
    args: dict[str, Any] = {}
    kinds = getattr(config, "layer_types", ())
    if kinds is None:
        kinds = ["conv" if hasattr(config, "conv_L_cache") else "full_attention", "full_attention", "full_attention"]
    if isinstance(kinds, (list, tuple)) and len(kinds) > 2:
        distinct = list(dict.fromkeys(kinds))
        args["layer_types"] = distinct if len(distinct) > 1 else [distinct[0]] * 2
        args["num_hidden_layers"] = len(args["layer_types"])
        if _value(config, "rope_parameters", 0) in (None, {}):  # one set for each kind of layer
            args["rope_parameters"] = {kind: {"rope_type": "default", "rope_theta": 10000.0} for kind in distinct}
    return _with_inner(config, args, _mixed_layers)


def _inner(config: Any) -> dict[str, Any]:
    parts = {name: getattr(config, name, None) for name in getattr(config, "sub_configs", {})}
    return {name: part for name, part in parts.items() if hasattr(part, "attribute_map")}


def _with_inner(config: Any, args: dict[str, Any], change: Any) -> dict[str, Any]:
    for name, part in _inner(config).items():
        if found := change(part):
            args[name] = {"model_type": part.model_type, **found}
    return args


def _get(config: Any, name: str) -> int | None:
    value = _value(config, name)
    return value if isinstance(value, int) and _number(value) and value > 0 else None


def _value(config: Any, name: str, default: Any = None) -> Any:
    try:
        return getattr(config, name, default)
    except Exception:  # noqa: BLE001 - a configuration may refuse: this number differs from layer to layer
        return default


def _number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
