"""The networks of the family: Stable Diffusion 1 at small widths, and how they are stored.

Context width (768), heads, levels and names are those of SD1, so that everything that works by
names and shapes treats the family as SD1.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from assetmgr.sampler.prompts.tokenizer import END, START, load_tokenizer
from converters.compute import buffer
from converters.dtypes import DType
from converters.layouts import clip_to_ldm, unet_to_ldm, vae_to_ldm
from converters.statedict import LazyTensor, StateDict

CHUNK = 77
SCALE = 0.18215
"""SD1's factor from the latents of the autoencoder to those of the denoiser."""

_WIDTH = 64
"""Channels of every level. SD1 normalises in 32 groups; groups of one channel would lose its mean,
and with it the colour of plain areas."""

_WORDS = (
    "a the on background photo of picture painting drawing in style with and , . big small large"
    " little bright dark shape shapes image illustration simple flat art striped stripes neon"
    " outlined sks smiley ring red green blue yellow purple orange black white"
    " circle square triangle"
)
"""Every word whose row of the token table is kept; all others are filled in when it is expanded."""


def make_unet() -> UNet2DConditionModel:
    """The denoiser: (B, 4, 8, 8) latents, (B, 77, 768) context."""
    attention = ("CrossAttnDownBlock2D",) * 3, ("CrossAttnUpBlock2D",) * 3
    return UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=(_WIDTH,) * 4,
        layers_per_block=2,
        cross_attention_dim=768,
        attention_head_dim=8,  # the number of heads, whatever the name says
        down_block_types=(*attention[0], "DownBlock2D"),
        up_block_types=("UpBlock2D", *attention[1]),
    )


def make_vae() -> AutoencoderKL:
    """The autoencoder: (B, 3, 64, 64) pictures, (B, 4, 8, 8) latents."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(_WIDTH,) * 4,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=32,
    )


def make_text_encoder() -> CLIPTextModel:
    """The text encoder: one layer, and only the rows of the token table that captions use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # start and end ids lie outside of the small table
        config = CLIPTextConfig(
            vocab_size=len(token_ids()),
            hidden_size=768,
            intermediate_size=256,
            num_hidden_layers=1,
            num_attention_heads=12,
            hidden_act="quick_gelu",
            max_position_embeddings=CHUNK,
            bos_token_id=0,
            eos_token_id=1,
        )
        return CLIPTextModel(config)


@functools.cache
def token_ids() -> tuple[int, ...]:
    """The ids of the kept rows, ascending."""
    tokenizer = load_tokenizer()
    found = {START, END}
    for word in _WORDS.split():
        found.update(tokenizer.encode(word, add_special_tokens=False))
    return tuple(sorted(found))


def rows_of(caption: str) -> list[int]:
    """A caption as 77 rows of the small token table. Raises ValueError for an unknown word."""
    ids = load_tokenizer().encode(caption)
    return [token_ids().index(number) for number in [*ids, *[END] * (CHUNK - len(ids))]]


def context(text: CLIPTextModel, captions: Sequence[str]) -> torch.Tensor:
    """Last hidden states with the final norm, (N, 77, 768)."""
    rows = torch.tensor([rows_of(caption) for caption in captions])
    states: torch.Tensor = text(input_ids=rows).last_hidden_state
    return states


def calibrate(vae: AutoencoderKL, latents: torch.Tensor) -> None:
    """Rescale the autoencoder in place so that its latents times 0.18215 have unit deviation."""
    factor = float(1 / (SCALE * latents.std()))
    channels = latents.shape[1]
    with torch.no_grad():
        for parameter in (vae.quant_conv.weight, vae.quant_conv.bias):
            parameter[:channels] *= factor
        vae.quant_conv.bias[channels:] += 2 * torch.tensor(factor).log()
        vae.post_quant_conv.weight /= factor


@dataclass(frozen=True, slots=True)
class Networks:
    """The parts of a checkpoint."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text: CLIPTextModel


def stored(tensors: Mapping[str, torch.Tensor], dtype: DType = DType.F16) -> StateDict:
    """Tensors as a state dict that the writer can take, floats in `dtype`."""
    kinds = {DType.F16: torch.float16, DType.F32: torch.float32}
    made = {}
    for name, tensor in tensors.items():
        element = dtype if tensor.is_floating_point() else DType.I64
        data = bytes(buffer(tensor.to(kinds.get(element, torch.int64))))
        made[name] = LazyTensor(element, tuple(tensor.shape), functools.partial(bytes, data), name)
    return StateDict(made)


def vae_tensors(vae: AutoencoderKL) -> StateDict:
    """The autoencoder under its names in a VAE file."""
    renamed = vae_to_ldm(stored(vae.state_dict()))
    return renamed.rename(lambda name: name.removeprefix("first_stage_model."))


def checkpoint_tensors(networks: Networks) -> StateDict:
    """The whole checkpoint in the single-file layout; the token table has only the kept rows."""
    return (
        unet_to_ldm(stored(networks.unet.state_dict()))
        .overlay(vae_to_ldm(stored(networks.vae.state_dict())))
        .overlay(clip_to_ldm(stored(networks.text.state_dict())))
    )
