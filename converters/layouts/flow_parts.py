"""The components of SD3 and Flux models, whatever file they come from, and a whole made of several.

Few files of these families hold all that a render needs: the encoders and the autoencoder have
files of their own. A whole model has the prefixes of ComfyUI's all-in-one files
(`comfy/supported_models.py`), which is also what adapters are merged into.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from converters.bases import Base
from converters.errors import CorruptFile
from converters.identify.names import Names
from converters.layouts.components import PREFIXES, UNET, VAE, component, own_or_component
from converters.layouts.mmdit import mmdit_to_diffusers
from converters.layouts.openclip import PROJECTION, is_openclip, openclip_to_transformers
from converters.layouts.pipeline import is_pipeline_state, pipeline_parts
from converters.layouts.sd_vae import vae_to_diffusers
from converters.layouts.t5 import t5_to_transformers
from converters.layouts.text_encoders import clip_to_transformers
from converters.statedict import StateDict

CLIP_L, CLIP_G, T5 = "clip_l", "clip_g", "t5xxl"
T5_TOKENIZER = "t5_tokenizer"
CLIP = "clip"
"""A CLIP encoder in a file of its own; its width tells which."""

NEEDED: Mapping[Base, tuple[str, ...]] = {
    Base.SD3: (CLIP_L, CLIP_G, VAE),
    Base.FLUX: (CLIP_L, T5, VAE),
}
"""What a render needs beside the transformer. SD3 was trained to do without T5 (zeros)."""

_PIPELINE: Mapping[Base, Mapping[str, str]] = {
    Base.SD3: {"text_encoder": CLIP_L, "text_encoder_2": CLIP_G, "text_encoder_3": T5},
    Base.FLUX: {"text_encoder": CLIP_L, "text_encoder_2": T5},
}
PREFIX = {
    UNET: PREFIXES[UNET][0],
    VAE: "vae.",
    **{role: f"text_encoders.{role}.transformer." for role in (CLIP_L, CLIP_G, T5)},
}
"""Role -> its prefix in a whole model."""

_T5_MARK = "encoder.block.0.layer.0.SelfAttention.q.weight"
_VAE_MARK = "decoder.conv_in.weight"
_CLIP_MARKS = ("embeddings.token_embedding.weight", "text_model.embeddings.token_embedding.weight")
_PROJECTION = f"{PROJECTION}.weight"


def held(sd: StateDict, base: Base) -> dict[str, StateDict]:
    """The components in a file of whatever kind, under their roles, names without prefix.

    `base` tells the order of a pipeline's encoders. A lone CLIP encoder is there as `CLIP`.
    """
    if is_pipeline_state(sd):
        roles = {"transformer": UNET, "vae": VAE, **_PIPELINE[base]}
        found = {roles.get(name, ""): part for name, part in pipeline_parts(sd).items()}
    else:
        found = {role: _inside(sd, prefix) for role, prefix in PREFIX.items()}
        found[UNET] = _denoiser(sd)
        found[VAE] = component(sd, VAE)
        found |= _alone(sd)
    return {role: part for role, part in found.items() if role and len(part)}


def _denoiser(sd: StateDict) -> StateDict:
    """The transformer with or without prefix; nothing where the file is something else."""
    names = Names(sd).denoiser
    blocks = ("joint_blocks.", "double_blocks.", "transformer_blocks.")
    if not any(name.startswith(blocks) for name in names):
        return StateDict({})
    return StateDict(dict(names.items()), sd.metadata, sd.extras)


def _alone(sd: StateDict) -> dict[str, StateDict]:
    """The file as a component without prefix."""
    if _T5_MARK in sd:
        return {T5: sd}
    if _VAE_MARK in sd:
        return {VAE: sd}
    if is_openclip(sd) or any(mark in sd for mark in _CLIP_MARKS):
        return {CLIP: sd}
    return {}


def _inside(sd: StateDict, prefix: str) -> StateDict:
    inner = sd.select(lambda name: name.startswith(prefix))
    return inner.rename(lambda name: name.removeprefix(prefix))


def whole(parts: Mapping[str, StateDict], metadata: Mapping[str, str]) -> StateDict:
    """One state dict of components under their roles, with the prefixes of an all-in-one file."""
    return StateDict(
        {
            PREFIX[role] + name: tensor
            for role, part in parts.items()
            for name, tensor in part.items()
        },
        metadata,
    )


def roles_of(sd: StateDict) -> frozenset[str]:
    """The roles of the components in a whole model."""
    return frozenset(r for r, prefix in PREFIX.items() if any(n.startswith(prefix) for n in sd))


def network_names(sd: StateDict, role: str, base: Base) -> StateDict:
    """A component of a whole model under the names of the library that computes it.

    Raises CorruptFile for a structure that is none.
    """
    return _SPELLINGS[role](_inside(sd, PREFIX[role]), base)


def _clip(part: StateDict, base: Base) -> StateDict:
    """As CLIPTextModelWithProjection names it for SD3, and CLIPTextModel for Flux."""
    named = openclip_to_transformers(part) if is_openclip(part) else part
    inner = clip_to_transformers(named.drop({"logit_scale"}))
    if base is Base.FLUX:
        return inner.drop({_PROJECTION})
    inner = inner.drop({_PROJECTION}).rename(lambda name: f"text_model.{name}")
    projection = named.get(_PROJECTION)
    return inner if projection is None else inner.overlay({_PROJECTION: projection})


_SPELLINGS: Mapping[str, Callable[[StateDict, Base], StateDict]] = {
    UNET: lambda part, _: mmdit_to_diffusers(part),
    VAE: lambda part, _: vae_to_diffusers(own_or_component(part, VAE)),
    CLIP_L: _clip,
    CLIP_G: _clip,
    T5: lambda part, _: t5_to_transformers(part),
}


def clip_width(part: StateDict) -> int:
    """Channels of a CLIP encoder in any spelling. Raises CorruptFile."""
    for name in ("token_embedding.weight", *_CLIP_MARKS):
        tensor = part.get(name)
        if tensor is not None and len(tensor.shape) == 2:
            return tensor.shape[1]
    raise CorruptFile("the text encoder lacks its token embedding")
