"""Which part of a model a tensor belongs to, by the prefix it carries in a single file.

Source: the prefixes of CompVis/stable-diffusion, Stability-AI/generative-models and
ComfyUI `comfy/supported_models.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from converters.statedict import StateDict

UNET, VAE, TEXT_ENCODER, UNET_EMA, OTHER = "unet", "vae", "text_encoder", "unet_ema", "other"

PREFIXES: Mapping[str, tuple[str, ...]] = {
    UNET: ("model.diffusion_model.",),
    VAE: ("first_stage_model.", "vae."),
    TEXT_ENCODER: ("cond_stage_model.", "conditioner.", "text_encoders."),
    UNET_EMA: ("model_ema.",),
}
"""Component -> its prefixes, the one to write first."""

_BY_FIRST_WORD: dict[str, list[tuple[str, str]]] = {}
for _component, _prefixes in PREFIXES.items():
    for _prefix in _prefixes:
        _BY_FIRST_WORD.setdefault(_prefix.partition(".")[0], []).append((_prefix, _component))

TRAINING_ONLY = ("loss.", "model_ema.")
"""What old autoencoder checkpoints carry beside the model: the discriminator and its averages."""


def component_of(name: str) -> str:
    """The component of a tensor of a single-file checkpoint."""
    for prefix, component in _BY_FIRST_WORD.get(name.partition(".")[0], ()):
        if name.startswith(prefix):
            return component
    return OTHER


def component(sd: StateDict, name: str) -> StateDict:
    """The tensors of one component, without its prefix; empty when the file has none of it."""
    for prefix in PREFIXES[name]:
        found = {n.removeprefix(prefix): t for n, t in sd.items() if n.startswith(prefix)}
        if found:
            return replace(sd, tensors=found)
    return replace(sd, tensors={})


def own_or_component(sd: StateDict, name: str) -> StateDict:
    """The component out of a checkpoint, or the whole of a file that is just this component."""
    found = component(sd, name)
    return found if len(found) else sd


def strip_prefix(name: str, prefixes: tuple[str, ...]) -> str:
    """`name` without the first of the prefixes that it begins with."""
    for prefix in prefixes:
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name
