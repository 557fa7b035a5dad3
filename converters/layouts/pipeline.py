"""A whole model in its two layouts: one file with prefixes, or the components of a pipeline.

Source of prefixes and component names: CompVis/stable-diffusion, Stability-AI/generative-models and
huggingface/diffusers `loaders/single_file_utils.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from converters.bases import Base
from converters.containers.diffusers_folder import PREDICTION_KEY, ZERO_SNR_KEY
from converters.dtypes import DType
from converters.errors import CorruptFile, UnsupportedFile
from converters.layouts.components import UNET, VAE, component, component_of
from converters.layouts.edm import Edm, edm_markers, edm_of
from converters.layouts.openclip import (
    LOGIT_SCALE,
    PROJECTION,
    RESBLOCKS,
    block_count,
    is_openclip,
    openclip_from_transformers,
    openclip_to_transformers,
    synthetic,
)
from converters.layouts.sd_unet import unet_to_diffusers, unet_to_ldm
from converters.layouts.sd_vae import vae_to_diffusers, vae_to_ldm
from converters.layouts.text_encoders import clip_to_transformers, layer_count
from converters.statedict import LazyTensor, StateDict

TRANSFORMER = "transformer"
"""The component of a pipeline in place of a UNet."""
FIRST_ENCODER, SECOND_ENCODER = "text_encoder", "text_encoder_2"


@dataclass(frozen=True, slots=True)
class Encoder:
    """A text encoder of a family: its component, and where it lies in a single file.

    `openclip` encoders are named as in that project there; `width` is theirs where a prefix does
    not tell the family. `penultimate` ones are cut behind the layer that is used: diffusers keeps
    neither the last block nor the projection. `elsewhere` is the prefix in files of another making.
    """

    component: str
    prefix: str
    openclip: bool = False
    penultimate: bool = False
    width: int | None = None
    elsewhere: str | None = None

    def held(self, state: StateDict) -> str | None:
        """The prefix under which a single file holds this encoder, None where it does not."""
        for prefix in filter(None, (self.prefix, self.elsewhere)):
            norm = state.get(f"{prefix}ln_final.weight")
            if norm is None and prefix == self.elsewhere:
                continue
            is_ours = norm is None or self.width is None or norm.shape == (self.width,)
            if is_ours and any(name.startswith(prefix) for name in state):
                return prefix
        return None


_ONLY_ONE = "conditioner.embedders.0.model."
"""The encoder of the SDXL refiner, and that of SD2 in files of Stability-AI/generative-models."""


ENCODERS: Mapping[Base, tuple[Encoder, ...]] = {
    Base.SD1: (Encoder(FIRST_ENCODER, "cond_stage_model.transformer."),),
    Base.SD2: (
        Encoder(
            *(FIRST_ENCODER, "cond_stage_model.model."),
            openclip=True,
            penultimate=True,
            width=1024,
            elsewhere=_ONLY_ONE,
        ),
    ),
    Base.SDXL: (
        Encoder(FIRST_ENCODER, "conditioner.embedders.0.transformer."),
        Encoder(SECOND_ENCODER, "conditioner.embedders.1.model.", openclip=True),
    ),
    Base.SDXL_REFINER: (Encoder(SECOND_ENCODER, _ONLY_ONE, openclip=True, width=1280),),
}
"""The families that have both layouts."""

V_MARKER, ZERO_SNR_MARKER = "v_pred", "ztsnr"
"""Names of empty tensors that mark an SDXL checkpoint (ComfyUI `comfy/supported_models.py`)."""

COMPONENTS = (UNET, VAE, FIRST_ENCODER, SECOND_ENCODER)
_OTHER_COMPONENTS = {TRANSFORMER, "prior", FIRST_ENCODER, SECOND_ENCODER}


@dataclass(frozen=True, slots=True)
class Components:
    """A pipeline's components by name, and what of the source has no place in it.

    `edm` is how the source was trained if it predicts in the terms of EDM.
    """

    base: Base
    parts: Mapping[str, StateDict]
    dropped: tuple[str, ...]
    edm: Edm


@dataclass(frozen=True, slots=True)
class SingleFile:
    """A single file's tensors; `notes` name what had to be made up or was left out."""

    base: Base
    state: StateDict
    notes: tuple[str, ...]


def to_components(state: StateDict, base: Base) -> Components:
    """The components of a single file under the names of diffusers and transformers.

    Raises UnsupportedFile for a family without pipeline layout or a component that is missing,
    CorruptFile for one whose structure is none and for levels of noise that are none.
    """
    parts: dict[str, StateDict] = {}
    for name, mapped in ((UNET, unet_to_diffusers), (VAE, vae_to_diffusers)):
        if not component(state, name):
            raise UnsupportedFile(f"has no {name}, which a pipeline needs")
        parts[name] = mapped(state)
    used = {name for name in state if component_of(name) in (UNET, VAE)}
    for encoder in _encoders(base):
        prefix, inner = _own(state, encoder)
        needed = inner.drop(_not_kept(inner, encoder))
        parts[encoder.component] = _hf_encoder(needed, encoder)
        used |= {prefix + name for name in needed}
    return Components(base, parts, tuple(sorted(set(state) - used)), edm_of(state))


def text_encoder_of(state: StateDict, base: Base, name: str) -> StateDict:
    """A whole text encoder of a single file as a file of its own, under transformers' names.

    Raises UnsupportedFile when the family or the file has none of this name.
    """
    encoder = next((e for e in _encoders(base) if e.component == name), None)
    if encoder is None:
        raise UnsupportedFile(f"{base.label} has no {name}")
    return _hf_encoder(_own(state, encoder)[1], encoder)


def encoders_in(state: StateDict) -> dict[str, StateDict]:
    """The text encoders of a single file of any family, as its pipeline has them; none is needed.

    Raises CorruptFile for one whose structure is none.
    """
    found: dict[str, StateDict] = {}
    for encoder in (each for encoders in ENCODERS.values() for each in encoders):
        if (prefix := encoder.held(state)) is not None:
            inner = _part(state, prefix)
            kept = inner.drop(_not_kept(inner, encoder))
            found[encoder.component] = _hf_encoder(kept, encoder)
    return found


def _own(state: StateDict, encoder: Encoder) -> tuple[str, StateDict]:
    """The prefix of an encoder in a file, and its tensors without it. Raises UnsupportedFile."""
    prefix = encoder.held(state)
    if prefix is None:
        raise UnsupportedFile(f"has no {encoder.component} ({encoder.prefix}*)")
    return prefix, _part(state, prefix)


def to_single_file(
    parts: Mapping[str, StateDict], metadata: Mapping[str, str] | None = None
) -> SingleFile:
    """The single file of a pipeline's components and metadata.

    Raises UnsupportedFile for components of no family that has a single file.
    """
    base = family_of(parts)
    if UNET not in parts:
        raise UnsupportedFile("the pipeline has no unet")
    tensors: dict[str, LazyTensor] = dict(unet_to_ldm(parts[UNET]))
    notes = [f"{name} has no place in a single file" for name in parts if name not in COMPONENTS]
    if VAE in parts:
        tensors |= vae_to_ldm(parts[VAE])
    for encoder in _encoders(base):
        if encoder.component not in parts:
            continue
        made, invented = _ldm_encoder(parts[encoder.component], encoder)
        tensors |= {encoder.prefix + name: tensor for name, tensor in made.items()}
        notes += [f"{encoder.component}: {what} is made up; no render uses it" for what in invented]
    state = StateDict(tensors, metadata or {})
    return SingleFile(base, state.overlay(markers(base, state.metadata)), tuple(notes))


def markers(base: Base, metadata: Mapping[str, str]) -> dict[str, LazyTensor]:
    """The tensors by which ComfyUI and Forge know what an SDXL checkpoint predicts."""
    if base is not Base.SDXL:
        return {}
    names = {PREDICTION_KEY: ("v", V_MARKER), ZERO_SNR_KEY: ("true", ZERO_SNR_MARKER)}
    told = [name for key, (word, name) in names.items() if metadata.get(key) == word]
    empty = LazyTensor(DType.F32, (0,), (), "made up")
    return dict.fromkeys(told, empty) | edm_markers(metadata)


def is_pipeline_state(state: StateDict) -> bool:
    """Whether a state dict is that of a pipeline: several components under their names."""
    if f"{UNET}.conv_in.weight" in state:
        return True
    if f"{VAE}.decoder.conv_in.weight" not in state:
        return False
    return any(name.partition(".")[0] in _OTHER_COMPONENTS for name in state)


def pipeline_parts(state: StateDict) -> dict[str, StateDict]:
    """The components of a state dict whose names are `<component>.<tensor>`."""
    names = dict.fromkeys(name.partition(".")[0] for name in state)
    return {part: _part(state, f"{part}.") for part in names}


def _part(state: StateDict, prefix: str) -> StateDict:
    inner = state.select(lambda name: name.startswith(prefix))
    return inner.rename(lambda name: name.removeprefix(prefix))


def family_of(parts: Mapping[str, StateDict]) -> Base:
    """The family of a pipeline by its text encoders. Raises UnsupportedFile."""
    if SECOND_ENCODER in parts:
        return Base.SDXL if FIRST_ENCODER in parts else Base.SDXL_REFINER
    widths = {768: Base.SD1, 1024: Base.SD2}
    encoder = clip_to_transformers(parts.get(FIRST_ENCODER, StateDict({})))
    norm = encoder.get("final_layer_norm.weight")
    base = None if norm is None else widths.get(norm.shape[0])
    if base is None:
        raise UnsupportedFile("is a pipeline of no family that has a single-file layout")
    return base


def _encoders(base: Base) -> tuple[Encoder, ...]:
    if base not in ENCODERS:
        raise UnsupportedFile(f"{base.label} has no pipeline layout here")
    return ENCODERS[base]


def _not_kept(inner: StateDict, encoder: Encoder) -> set[str]:
    """What diffusers has no place for: buffers, and what lies behind the layer that is used."""
    gone = {name for name in inner if name == LOGIT_SCALE or name.endswith("position_ids")}
    if encoder.penultimate:
        last = f"{RESBLOCKS}{block_count(inner) - 1}."
        gone |= {name for name in inner if name == PROJECTION or name.startswith(last)}
    return gone


def _hf_encoder(inner: StateDict, encoder: Encoder) -> StateDict:
    if not encoder.openclip:
        return clip_to_transformers(inner).rename(lambda name: f"text_model.{name}")
    if not is_openclip(inner):
        raise CorruptFile(f"{encoder.component} is not named as an OpenCLIP encoder")
    return openclip_to_transformers(inner)


def _ldm_encoder(part: StateDict, encoder: Encoder) -> tuple[StateDict, tuple[str, ...]]:
    if not encoder.openclip:
        return clip_to_transformers(part).rename(lambda name: f"text_model.{name}"), ()
    layers = layer_count(clip_to_transformers(part))
    blocks = layers + 1 if encoder.penultimate else layers
    made = openclip_from_transformers(part, blocks=blocks)
    return made, (*synthetic(part, blocks=blocks), *((LOGIT_SCALE,) if part else ()))
