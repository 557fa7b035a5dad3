"""A whole SD3 or Flux model becomes networks: diffusers' transformer and VAE, CLIP and T5.

Latents of these families are scaled and shifted by numbers that no tensor tells: 1.5305 and 0.0609
for SD3, 0.3611 and 0.1159 for Flux (ComfyUI `comfy/latent_formats.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from assetmgr.sampler.models.bundle import Bundle
from assetmgr.sampler.models.networks import (
    Incomplete,
    Part,
    decoder_alone,
    fill,
    require_complete,
    unfilled,
)
from converters.bases import Base
from converters.identify import Identity
from converters.layouts import vae_config
from converters.layouts.components import UNET, VAE
from converters.layouts.flow_parts import (
    CLIP_G,
    CLIP_L,
    NEEDED,
    PREFIX,
    T5,
    held,
    network_names,
    roles_of,
    whole,
)
from converters.layouts.mmdit import mmdit_config
from converters.layouts.t5 import t5_config
from converters.layouts.text_encoders import clip_config
from converters.progress import Progress
from converters.statedict import StateDict
from converters.transform.quantised_weights import unscaled

LATENTS: Mapping[Base, tuple[float, float]] = {
    Base.SD3: (1.5305, 0.0609),
    Base.FLUX: (0.3611, 0.1159),
}
"""Scale and shift of the latents."""

_ENCODERS = {Base.SD3: (CLIP_L, CLIP_G), Base.FLUX: (CLIP_L,)}


def joined(sd: StateDict, base: Base, companions: Mapping[str, StateDict]) -> StateDict:
    """A checkpoint with the components it lacks, each from the file given for its role.

    Raises Incomplete naming every component that is in none of them.
    """
    parts = {role: unscaled(part) for role, part in held(sd, base).items()}
    for role, companion in companions.items():
        found = held(companion, base)
        part = found.get(role, found.get("clip"))
        if part is not None:
            parts.setdefault(role, unscaled(part))
    absent = [role for role in (UNET, *NEEDED[base]) if role not in parts]
    if absent:
        raise Incomplete(tuple(f"the whole {role}" for role in absent))
    return whole(parts, sd.metadata)


def without_t5(sd: StateDict) -> StateDict:
    """A whole model without the encoder that nothing can be said to: its tokenizer is missing."""
    return sd.drop(frozenset(name for name in sd if name.startswith(PREFIX[T5])))


def load_flow(
    sd: StateDict,
    identity: Identity,
    device: torch.device,
    dtype: torch.dtype,
    progress: Progress,
) -> Bundle:
    """The networks of a whole model as `joined` makes it.

    T5 overflows in fp16 and is computed in bf16 instead. Raises Incomplete with every missing and
    unexpected name before anything is read, CorruptFile for shapes that are none of the family.
    """
    base = identity.base
    there = roles_of(sd)
    roles = [role for role in (UNET, VAE, *_ENCODERS[base], T5) if role in there]
    planned = {role: _planned(sd, role, base) for role in roles}
    require_complete(planned)
    progress.stage("load", sum(part.mapped.nbytes for part in planned.values()))
    for role, part in planned.items():
        overflows = role == T5 and dtype is torch.float16
        fill(part, device, torch.bfloat16 if overflows else dtype, progress)
    encoders = tuple(planned[role] for role in _ENCODERS[base])
    unet, vae, prose = planned[UNET], planned[VAE], planned.get(T5)
    return Bundle(sd, identity, unet, vae, encoders, prose)


def load_flow_vae(
    sd: StateDict, base: Base, device: torch.device, dtype: torch.dtype, progress: Progress
) -> Any:
    """The autoencoder of a file for latents of the family. Raises Incomplete."""
    found = held(sd, base).get(VAE)
    if found is None:
        raise Incomplete(("the whole vae",))
    part = decoder_alone(_planned(whole({VAE: found}, {}), VAE, base))
    require_complete({VAE: part})
    progress.stage("load", part.mapped.nbytes)
    fill(part, device, dtype, progress)
    return part.network


def _planned(sd: StateDict, role: str, base: Base) -> Part:
    mapped = network_names(sd, role, base)
    with unfilled():
        network = _BUILDERS[role](mapped, base)
    network.requires_grad_(requires_grad=False).eval()
    return Part(network, mapped, partial(network_names, role=role, base=base))


def _transformer(part: StateDict, base: Base) -> Any:
    import diffusers

    name = "FluxTransformer2DModel" if base is Base.FLUX else "SD3Transformer2DModel"
    return getattr(diffusers, name)(**mmdit_config(base, part))


def _vae(part: StateDict, base: Base) -> Any:
    from diffusers import AutoencoderKL

    config = vae_config(part)
    levels = len(config.block_out_channels)
    scale, shift = LATENTS[base]
    return AutoencoderKL(
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        latent_channels=config.latent_channels,
        block_out_channels=config.block_out_channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=config.layers_per_block,
        norm_num_groups=config.norm_groups,
        use_quant_conv=config.quant_conv,
        use_post_quant_conv=config.post_quant_conv,
        mid_block_add_attention=config.middle_attention,
        scaling_factor=scale,
        shift_factor=shift,
    )


def _clip(part: StateDict, base: Base, *, activation: str) -> Any:
    import transformers

    config = clip_config(part)
    projection = part.get("text_projection.weight")
    arguments = transformers.CLIPTextConfig(
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        hidden_act=activation,
        vocab_size=config.vocabulary,
        max_position_embeddings=config.positions,
        projection_dim=config.hidden_size if projection is None else projection.shape[0],
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=1,
    )
    if base is Base.FLUX:
        return transformers.CLIPTextModel(arguments)
    return transformers.CLIPTextModelWithProjection(arguments)


def _t5(part: StateDict, _base: Base) -> Any:
    import transformers

    return transformers.T5EncoderModel(transformers.T5Config(**t5_config(part)))


_BUILDERS: Mapping[str, Callable[[StateDict, Base], Any]] = {
    UNET: _transformer,
    VAE: _vae,
    CLIP_L: partial(_clip, activation="quick_gelu"),
    CLIP_G: partial(_clip, activation="gelu"),
    T5: _t5,
}
"""Role -> how its network is built."""
