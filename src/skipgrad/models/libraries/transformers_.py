"""``transformers:gpt2``: a model of transformers from its configuration class, with fresh weights."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import Any

from skipgrad.core import ModelError, UnknownName, nearest
from skipgrad.instrument.faults import shorten
from skipgrad.models.libraries._extra import optional
from skipgrad.models.libraries._transformers_inputs import example, main_input
from skipgrad.models.libraries.registry import LIBRARIES, Library
from skipgrad.models.source import ROLE_NAMES, Inputs, ModelSource, Role

# Which head a model type gets: the first of these tasks its configuration has a class for.
_TASKS = (
    ("language model", "AutoModelForCausalLM", "MODEL_FOR_CAUSAL_LM_MAPPING"),
    ("encoder-decoder", "AutoModelForSeq2SeqLM", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING"),
    ("classification", "AutoModelForImageClassification", "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING"),
    ("segmentation", "AutoModelForSemanticSegmentation", "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING"),
    ("masked language model", "AutoModelForMaskedLM", "MODEL_FOR_MASKED_LM_MAPPING"),
    ("speech", "AutoModelForSpeechSeq2Seq", "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING"),
    ("base", "AutoModel", "MODEL_MAPPING"),
)


def resolve(ref: str, name: str, args: dict[str, Any], head: str | None = None) -> ModelSource:
    """A model type of transformers (``gpt2``, ``bert``, ``t5``, ``vit`` …) with its default configuration.

    The class is the causal language model's where there is one (encoder-decoders: the sequence-to-sequence
    one), else the first of image classification, segmentation, masked language model, the bare model – unless
    ``head`` names the task.

    Raises:
        UnknownName: no such model type; with the nearest names.
        ModelError: a configuration value that does not exist or is refused.
    """
    transformers = optional("transformers", ref)
    types = list(transformers.CONFIG_MAPPING.keys())
    if name not in types:
        raise UnknownName(
            f"resolving the model {ref!r}",
            received=f"transformers has no model type {name!r}",
            todo=nearest(name, types) + "; it is the type, such as gpt2, not the name of a checkpoint",
        )
    config_class = transformers.CONFIG_MAPPING[name]
    config = _config(ref, config_class, {})
    unknown = [key for key in args if not hasattr(config, key)]
    if unknown:
        raise ModelError(
            f"building the model {ref!r}",
            where=config_class.__name__,
            received=f"no configuration value {unknown[0]!r}",
            todo=nearest(unknown[0], sorted(config.to_dict())),
        )
    task, auto, model_class = _model_class(transformers, config, ref, head)
    roles: dict[Role, str] = {}
    for role, names in ROLE_NAMES.items():
        names = ("num_labels",) if role == "classes" else names
        found = next((key for key in names if hasattr(config, key)), None)
        if found is not None:
            roles[role] = found
    if task not in ("classification", "segmentation"):
        roles.pop("classes", None)
    source = ModelSource(
        ref=ref,
        args=args,
        construct=partial(_construct, ref, config_class, auto),
        inputs=_inputs,
        modality=_modality(model_class),
        roles=roles,
        defaults={role: getattr(config, key) for role, key in roles.items()},
        signature=f"{config_class.__name__}({', '.join(args) or '…'})",
        user_args=frozenset(args),
        kind=task,
        extra=(partial(_config, ref, config_class), model_class),
        keywords={"image": "pixel_values", "text": "input_ids"},
        for_vocabulary=_special_tokens,
    )
    segments = transformers.models.auto.modeling_auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING
    if task == "classification" and type(config) in segments:
        source = replace(source, as_segmentation=partial(resolve, ref, name, args, "segmentation"))
    if _reads_both_ways(transformers, task, config):
        # Without it the net would see the byte it has to predict.
        source = source.with_args(**{"is_decoder": True, **args})
    return source


def _config(ref: str, config_class: Any, args: dict[str, Any]) -> Any:
    try:
        return config_class(**args)
    except Exception as error:
        raise ModelError(
            f"configuring the model {ref!r}",
            where=config_class.__name__,
            received=f"{type(error).__name__}: {shorten(str(error))}",
            todo="correct the arguments given by --model-arg name=value",
        ) from error


def _special_tokens(source: ModelSource, vocabulary: int) -> dict[str, Any]:
    """Tokens beyond the new vocabulary: padding would be an index error in the embedding, the others a warning."""
    config = source.extra[0]({})
    changed: dict[str, Any] = {}
    for name, value in (("pad_token_id", 0), ("bos_token_id", None), ("eos_token_id", None)):
        token = getattr(config, name, None)
        if isinstance(token, int) and token >= vocabulary and name not in source.user_args:
            changed[name] = value
    return changed


def _construct(ref: str, config_class: Any, auto: Any, **args: Any) -> Any:
    config = _config(ref, config_class, args)
    for part in _all_of(config):
        kinds = getattr(part, "layer_types", None) or getattr(part, "layers_block_type", None) or ()
        if "use_cache" not in args and any("attention" not in kind or kind.startswith("linear") for kind in kinds):
            part.use_cache = False  # the cache of a model that mixes kinds of layers wants one of softmax attention
    if getattr(config, "architectures", None) is None:
        config.architectures = []  # where one type has two classes (DeiT), the auto class loops over it
    return auto.from_config(config)


def _all_of(config: Any) -> list[Any]:
    """A configuration and those nested in it, of whatever modality."""
    inner = (getattr(config, name, None) for name in getattr(config, "sub_configs", {}))
    return [config, *(part for one in inner if one is not None for part in _all_of(one))]


def _model_class(transformers: Any, config: Any, ref: str, head: str | None) -> tuple[str, Any, Any]:
    modeling = transformers.models.auto.modeling_auto
    tasks = list(_TASKS)
    if getattr(config, "is_encoder_decoder", False):
        tasks.sort(key=lambda task: task[0] not in ("encoder-decoder", "speech"))
    if head is not None:
        tasks.sort(key=lambda task: task[0] != head)
    for task, auto, mapping in tasks:
        classes = getattr(modeling, mapping, {})
        if type(config) in classes:
            found = classes[type(config)]
            return task, getattr(transformers, auto), found[0] if isinstance(found, (tuple, list)) else found
    for name in sorted(vars(modeling)):
        classes = getattr(getattr(modeling, name), "_model_mapping", None)
        if name.startswith("Auto") and classes is not None and type(config) in classes:
            found = classes[type(config)]
            task = " ".join(re.findall("[A-Z][a-z]+", name.removeprefix("AutoModel").removeprefix("For"))).lower()
            return task, getattr(transformers, name), found[0] if isinstance(found, (tuple, list)) else found
    raise ModelError(
        f"resolving the model {ref!r}",
        received=f"{type(config).__name__} configures no model class that AutoModel knows",
        todo="refer to the class by your own callable: file.py:callable",
    )


def _modality(model_class: Any) -> Any:
    return {"input_ids": "text", "pixel_values": "image"}.get(main_input(model_class), "other")


def _reads_both_ways(transformers: Any, task: str, config: Any) -> bool:
    """An encoder with a causal head (BERT): it sees later tokens unless told to be a decoder."""
    masked = transformers.models.auto.modeling_auto.MODEL_FOR_MASKED_LM_MAPPING
    return task == "language model" and type(config) in masked and getattr(config, "is_decoder", None) is False


def _inputs(source: ModelSource, shape: tuple[int, ...] | None, device: str) -> Inputs:
    make_config, model_class = source.extra
    return (), example(make_config(dict(source.args)), model_class, shape, device)


LIBRARIES.register("transformers", Library(resolve, "transformers:gpt2", extra="models", package="transformers"))
