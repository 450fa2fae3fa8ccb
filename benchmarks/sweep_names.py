"""The names a sweep goes through."""

from __future__ import annotations

import re
from collections import defaultdict

SIZES = (
    "test", "zepto", "atto", "femto", "pico", "nano", "xxxs", "xxs", "xs", "xtiny", "tiny", "ti", "t", "mini", "micro",
    "n", "xsmall", "small", "s", "little", "medium", "m", "so", "base", "b", "large", "l", "x", "xlarge", "xl",
    "xxlarge", "xxl", "huge", "giant", "gigantic", "enormous",
)  # fmt: skip
# Words for the input, the pretraining or a trifle of the stem: they do not make another family.
TRIFLES = ("patch", "window", "clip", "gap", "siglip", "reg", "quickgelu", "dinov", "rope")


def timm_names(every: bool) -> list[str]:
    """``timm:NAME`` of all registered architectures, or of the smallest of each family.

    A family is the module that defines it and the first two words of the name that are no sizes: ``resnet50``,
    ``resnet101`` and ``resnet152`` are one, ``resnext50``, ``vit_relpos`` and ``vit_srelpos`` others.
    """
    import timm

    if every:
        return [f"timm:{name}" for name in timm.list_models()]
    families: dict[tuple[str, str], list[str]] = defaultdict(list)
    for module in timm.list_modules():
        for name in timm.list_models(module=module):
            families[module, family_of(name)].append(name)
    return [f"timm:{min(names, key=lambda n: (_size(n), names.index(n)))}" for names in families.values()]


def family_of(name: str) -> str:
    """The stem that names of one family share."""
    words = [re.sub(r"\d.*$", "", word) for word in name.split("_")]
    return "_".join([w for w in words if w and w not in SIZES and w not in TRIFLES][:2])


def _size(name: str) -> int:
    words = name.split("_")
    if words[0] == "test":
        return len(SIZES)  # miniatures made for timm's own tests come last
    return min((SIZES.index(w) for w in words if w in SIZES), default=0)


def transformers_names() -> list[str]:
    """``transformers:TYPE`` of every model type for which some auto class knows a model."""
    import transformers
    from transformers.models.auto import modeling_auto

    mappings = [m for n, m in vars(modeling_auto).items() if n.startswith("MODEL_") and n.endswith("MAPPING_NAMES")]
    types = {model_type for mapping in mappings for model_type in mapping}
    return [f"transformers:{t}" for t in sorted(types) if t in transformers.CONFIG_MAPPING]
