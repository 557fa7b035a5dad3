"""What a file says about itself: titles, authors, licences, and how it was trained.

Sources: Stability-AI/ModelSpec `README.md` (`modelspec.*`), kohya-ss/sd-scripts `train_network.py`
(`ss_*`, where `None` is a word), the additional-networks extension (`ssmd_*`), A1111
`textual_inversion.py` and `hypernetwork.py` (values beside the tensors). Nothing here is verified:
the texts are the author's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from converters.extras import file_extras
from converters.statedict import Plain, StateDict

_TITLE = ("modelspec.title", "ssmd_display_name", "ss_output_name")
_AUTHOR = ("modelspec.author", "ssmd_author")
_DESCRIPTION = ("modelspec.description", "ssmd_description", "ss_training_comment")
_LICENSE = ("modelspec.license",)
_USAGE = ("modelspec.usage_hint",)
_TAGS = ("modelspec.tags", "ssmd_tags")

_TRAINING = {
    "base_model": "ss_sd_model_name",
    "base_model_hash": "ss_new_sd_model_hash",
    "base_model_version": "ss_base_model_version",
    "vae": "ss_vae_name",
    "network": "ss_network_module",
    "dim": "ss_network_dim",
    "alpha": "ss_network_alpha",
    "network_args": "ss_network_args",
    "learning_rate": "ss_learning_rate",
    "unet_learning_rate": "ss_unet_lr",
    "text_encoder_learning_rate": "ss_text_encoder_lr",
    "scheduler": "ss_lr_scheduler",
    "optimizer": "ss_optimizer",
    "steps": "ss_steps",
    "epochs": "ss_num_epochs",
    "epoch": "ss_epoch",
    "batch_size": "ss_total_batch_size",
    "images": "ss_num_train_images",
    "resolution": "ss_resolution",
    "clip_skip": "ss_clip_skip",
    "seed": "ss_seed",
    "mixed_precision": "ss_mixed_precision",
    "noise_offset": "ss_noise_offset",
    "min_snr_gamma": "ss_min_snr_gamma",
}
"""Our word -> the trainer's key."""

_BESIDE = {
    "base_model": "sd_checkpoint_name",
    "base_model_hash": "sd_checkpoint",
    "steps": "step",
    "activation": "activation_func",
    "layer_structure": "layer_structure",
    "layer_norm": "is_layer_norm",
    "dropout": "use_dropout",
}
"""Our word -> the name of a value beside the tensors."""

_JSON = {"network_args"}
_TEXTS = {"base_model", "base_model_hash", "base_model_version", "vae", "network"}


@dataclass(frozen=True, slots=True)
class About:
    """The author's words; `training` holds settings by our names, numbers as numbers."""

    title: str | None = None
    author: str | None = None
    description: str | None = None
    license: str | None = None
    usage: str | None = None
    tags: tuple[str, ...] = ()
    training: Mapping[str, Plain] = field(default_factory=dict)


def about(sd: StateDict) -> About:
    """What metadata and values beside the tensors say. What does not parse is passed over."""
    metadata = sd.metadata
    tags = (_first(metadata, _TAGS) or "").split(",")
    return About(
        _first(metadata, _TITLE),
        _first(metadata, _AUTHOR),
        _first(metadata, _DESCRIPTION),
        _first(metadata, _LICENSE),
        _first(metadata, _USAGE),
        tuple(dict.fromkeys(filter(None, map(str.strip, tags)))),
        {**_beside(file_extras(sd)), **_trained(metadata)},
    )


def _first(metadata: Mapping[str, str], keys: tuple[str, ...]) -> str | None:
    found = (_said(metadata.get(key)) for key in keys)
    return next((text for text in found if text is not None), None)


def _said(text: str | None) -> str | None:
    """A text that says something: trainers write Python's `None` as a word."""
    text = (text or "").strip()
    return None if text in {"", "None"} else text


def _trained(metadata: Mapping[str, str]) -> dict[str, Plain]:
    said = {word: _said(metadata.get(key)) for word, key in _TRAINING.items()}
    values = {word: _value(word, text) for word, text in said.items() if text is not None}
    return {word: value for word, value in values.items() if value is not None}


def _value(word: str, text: str) -> Plain:
    if word in _TEXTS:
        return text
    if word in _JSON:
        try:
            document: Plain = json.loads(text)
        except (ValueError, RecursionError):
            return None
        return document or None
    return _number(text)


def _number(text: str) -> Plain:
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number) else None
    return text


def _beside(extras: Mapping[str, Plain]) -> dict[str, Plain]:
    found = {word: extras.get(name) for word, name in _BESIDE.items()}
    return {word: value for word, value in found.items() if isinstance(value, str | int | list)}
