"""The components of a model under one spelling each, whatever file they come from.

A UNet, a VAE or a text encoder has other names alone, in a checkpoint and in a pipeline; here each
gets those of diffusers and transformers, without prefix, by the maps of `converters.layouts`. What
no map knows keeps its own names without prefix; nothing is guessed.

The parts of fused matrices of OpenCLIP are told apart, and its transposed projection is turned.
What cannot be the same: text encoders of SD2, of which checkpoints and pipelines hold other parts
than the encoder's own file does (compared is what a pipeline keeps); encoders with and without
their projection; denoisers whose layouts differ in more than names (SD3, Flux and younger ones
between their original and diffusers' layout); and anything in another element type.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from converters.digest import Parts
from converters.errors import CorruptFile
from converters.identify.names import Names
from converters.kinds import Kind
from converters.layouts.components import (
    OTHER,
    TEXT_ENCODER,
    UNET,
    UNET_EMA,
    VAE,
    component,
    component_of,
    own_or_component,
)
from converters.layouts.openclip import (
    LOGIT_SCALE,
    PROJECTION,
    is_openclip,
    openclip_to_transformers,
)
from converters.layouts.pipeline import encoders_in, is_pipeline_state, pipeline_parts
from converters.layouts.sd_unet import unet_to_diffusers
from converters.layouts.sd_vae import vae_to_diffusers
from converters.layouts.text_encoders import clip_to_transformers
from converters.statedict import StateDict
from converters.transform.ema import averages

_ALL_IN_ONE = re.compile(r"text_encoders\.(\w+)\.transformer\.")
"""How ComfyUI names the text encoders of SD3, Flux and later families in a checkpoint."""

_CLIP = "encoder.layers.0.mlp.fc1.weight"
_PROJECTION = f"{PROJECTION}.weight"

Spelling = Callable[[StateDict], StateDict]


def canonical_parts(state: StateDict, kind: str) -> Parts:
    """The components of a file of this kind, by name; reads no tensor data and never raises.

    `unet` (also for denoisers of other making), `unet_ema`, `vae`, `text_encoder`,
    `text_encoder_2`, the names of ComfyUI's text encoders (`clip_l`, `t5xxl`, …), and of a pipeline
    whatever it has. Adapters and other kinds have none: the digest of all their tensors tells as
    much. What belongs to no component is left out.
    """
    if kind not in _MAKERS:
        return {}
    found = _of_pipeline(state) if is_pipeline_state(state) else _MAKERS[kind](state)
    return {name: part for name, part in found.items() if part}


def _of_pipeline(state: StateDict) -> dict[str, StateDict]:
    return {name: _spelled(part, _spelling(name)) for name, part in pipeline_parts(state).items()}


def _spelling(name: str) -> Spelling:
    if name.startswith("text_encoder"):
        return _encoder
    return {UNET: unet_to_diffusers, VAE: vae_to_diffusers}.get(name, _as_it_is)


def _of_checkpoint(state: StateDict) -> dict[str, StateDict]:
    denoiser = _denoiser(state)
    return {
        UNET: _spelled(denoiser, unet_to_diffusers),
        UNET_EMA: _spelled(averages(state), unet_to_diffusers),
        VAE: _spelled(component(state, VAE), vae_to_diffusers),
        **_encoders(state),
    }


def _of_vae(state: StateDict) -> dict[str, StateDict]:
    return {VAE: _spelled(own_or_component(state, VAE), vae_to_diffusers)}


def _of_encoder(state: StateDict) -> dict[str, StateDict]:
    return _encoders(state) or {TEXT_ENCODER: _spelled(state, _encoder)}


_MAKERS: dict[str, Callable[[StateDict], dict[str, StateDict]]] = {
    Kind.CHECKPOINT: _of_checkpoint,
    Kind.DIFFUSION_MODEL: _of_checkpoint,
    Kind.VAE: _of_vae,
    Kind.TEXT_ENCODER: _of_encoder,
}
KINDS = frozenset(_MAKERS)
"""Of models that have components."""


def _denoiser(state: StateDict) -> StateDict:
    """Without a prefix of its own the denoiser is whatever nothing else is."""
    names = Names(state).denoiser
    if names.head:
        return StateDict(dict(names.items()))
    return state.select(lambda name: component_of(name) == OTHER)


def _encoders(state: StateDict) -> dict[str, StateDict]:
    """The text encoders of a single file; of unknown layouts all together."""
    own = component(state, TEXT_ENCODER)
    if not own or not _whole_bytes(own):
        return {TEXT_ENCODER: own} if own else {}
    try:
        known = encoders_in(state)
    except CorruptFile:
        known = {}
    return known or _all_in_one(state) or {TEXT_ENCODER: own}


def _all_in_one(state: StateDict) -> dict[str, StateDict]:
    prefixes = {m[1]: m[0] for name in state if (m := _ALL_IN_ONE.match(name))}
    return {
        word: _spelled(_inside(state, prefix), _encoder)
        for word, prefix in sorted(prefixes.items())
    }


def _inside(state: StateDict, prefix: str) -> StateDict:
    inner = state.select(lambda name: name.startswith(prefix))
    return inner.rename(lambda name: name.removeprefix(prefix))


def _encoder(part: StateDict) -> StateDict:
    """A text encoder without prefix as CLIPTextModelWithProjection names it, if it is one."""
    if is_openclip(part):
        return openclip_to_transformers(part)
    if not any(name.endswith(_CLIP) for name in part):
        return part
    named = clip_to_transformers(part).drop({LOGIT_SCALE, _PROJECTION})
    projection = part.select(lambda name: name == _PROJECTION)
    return named.rename(lambda name: f"text_model.{name}").overlay(projection)


def _spelled(part: StateDict, spelling: Spelling) -> StateDict:
    """The part as the spelling has it; as it is where that does not fit."""
    try:
        return spelling(part) if _whole_bytes(part) else part
    except CorruptFile:
        return part


def _whole_bytes(part: StateDict) -> bool:
    """Whether rows of the tensors can be told apart: elements of half a byte cannot be."""
    return all(tensor.dtype.bits % 8 == 0 for tensor in part.values())


def _as_it_is(part: StateDict) -> StateDict:
    return part
