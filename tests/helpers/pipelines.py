"""Tiny single-file checkpoints of every family that also has a pipeline layout.

Context widths are the true ones, so that the family can be told; all else is small. The OpenCLIP
names are written from mlfoundations/open_clip `transformer.py`, not from `converters.layouts`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

from helpers.sd1 import (
    CLIP,
    SMALL,
    TRUE,
    UNET,
    VAE,
    Shapes,
    Widths,
    clip_shapes,
    prefixed,
    random_fill,
    state_dict,
    unet_shapes,
    vae_shapes,
)

from converters.dtypes import DType
from converters.statedict import StateDict

SD2 = replace(SMALL, context=1024, linear=True)
SDXL = replace(SMALL, context=2048, linear=True, adm=2816, attention=(False, True), depths=(0, 2))
REFINER = replace(SDXL, context=1280, adm=2560)

CLIP_G_PREFIX = "conditioner.embedders.1.model."
REFINER_PREFIX = "conditioner.embedders.0.model."
SD2_PREFIX = "cond_stage_model.model."
CLIP_L_PREFIX = "conditioner.embedders.0.transformer.text_model."


def openclip_shapes(width: int, layers: int, inner: int = 64, vocabulary: int = 512) -> Shapes:
    """An OpenCLIP text encoder, without prefix."""
    shapes: Shapes = {
        "positional_embedding": (77, width),
        "text_projection": (width, width),
        "logit_scale": (),
        "token_embedding.weight": (vocabulary, width),
        "ln_final.weight": (width,),
        "ln_final.bias": (width,),
    }
    for layer in range(layers):
        path = f"transformer.resblocks.{layer}"
        shapes |= {
            f"{path}.{n}.{p}": (width,) for n in ("ln_1", "ln_2") for p in ("weight", "bias")
        }
        shapes |= {f"{path}.attn.in_proj_weight": (3 * width, width)}
        shapes |= {f"{path}.attn.in_proj_bias": (3 * width,)}
        shapes |= {f"{path}.attn.out_proj.weight": (width, width)}
        shapes |= {f"{path}.attn.out_proj.bias": (width,)}
        shapes |= {f"{path}.mlp.c_fc.weight": (inner, width), f"{path}.mlp.c_fc.bias": (inner,)}
        shapes |= {f"{path}.mlp.c_proj.weight": (width, inner), f"{path}.mlp.c_proj.bias": (width,)}
    return shapes


def _rest(w: Widths) -> Shapes:
    return {**prefixed(VAE, vae_shapes(w)), **prefixed(UNET, unet_shapes(w))}


def _sd1(layers: int = 2) -> Shapes:
    clip = clip_shapes(replace(SMALL, clip_layers=layers))
    del clip["embeddings.position_ids"]  # what transformers makes itself and diffusers leaves out
    return {**prefixed(CLIP, clip), **_rest(SMALL)}


def _sd2(layers: int = 2) -> Shapes:
    unused = 1  # the last layer, which nothing uses
    return {**prefixed(SD2_PREFIX, openclip_shapes(1024, layers + unused)), **_rest(SD2)}


def _sdxl(layers: int = 2) -> Shapes:
    clip = clip_shapes(replace(SMALL, clip_layers=layers))
    del clip["embeddings.position_ids"]
    big = openclip_shapes(1280, layers)
    return {**prefixed(CLIP_L_PREFIX, clip), **prefixed(CLIP_G_PREFIX, big), **_rest(SDXL)}


def _refiner(layers: int = 2) -> Shapes:
    return {**prefixed(REFINER_PREFIX, openclip_shapes(1280, layers)), **_rest(REFINER)}


FAMILIES: dict[str, Callable[..., Shapes]] = {
    "sd-1": _sd1,
    "sd-2": _sd2,
    "sdxl": _sdxl,
    "sdxl-refiner": _refiner,
}


def true_sdxl() -> Shapes:
    """The names and shapes of SDXL base itself: 2,515 tensors, 6.94 GB in half precision."""
    clip = clip_shapes(TRUE)
    widths = replace(
        SDXL, channels=(320, 640, 1280), attention=(False, True, True), layers=2, depths=(0, 2, 10)
    )
    return {
        **prefixed(CLIP_L_PREFIX, clip),
        **prefixed(CLIP_G_PREFIX, openclip_shapes(1280, 32, 5120, 49408)),
        **prefixed(VAE, vae_shapes(TRUE)),
        **prefixed(UNET, unet_shapes(widths)),
    }


def checkpoint(
    family: str, dtype: DType = DType.F16, *, filled: bool = True, text_layers: int = 2
) -> StateDict:
    """A whole checkpoint of the family in one file; most of it are the layers of text encoders."""
    shapes = FAMILIES[family](text_layers)
    return state_dict(shapes, dtype, fill=random_fill(dtype) if filled else None)


_NARROW = {
    "sd-1": Widths((32, 32, 64, 64), (True, True, True, False)),
    "sd-2": replace(SD2, channels=(32, 32, 64, 64), attention=(True, True, True, False)),
    "sdxl": replace(SDXL, channels=(32, 32, 64), attention=(False, True, True)),
    "sdxl-refiner": replace(
        REFINER, channels=(32, 32, 64, 64), attention=(False, True, True, False)
    ),
}
_DEPTHS = {"sdxl": (0, 2, 3), "sdxl-refiner": (0, 1, 1, 0)}


@functools.cache
def narrow_checkpoint(family: str) -> StateDict:
    """A model with the blocks of its family, all of them narrow, and one layer for each encoder."""
    others = {n: s for n, s in FAMILIES[family](1).items() if not n.startswith(UNET)}
    widths = replace(_NARROW[family], layers=2, depths=_DEPTHS.get(family))
    shapes = {**others, **prefixed(UNET, unet_shapes(widths))}
    return state_dict(shapes, DType.F32, fill=random_fill(DType.F32))
