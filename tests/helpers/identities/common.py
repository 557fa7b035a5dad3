"""Structures that several kinds of files have, and words for what they are."""

from __future__ import annotations

from dataclasses import replace

from helpers.sd1 import SMALL, TRUE, Shapes, state_dict

from converters.identify import Base, Kind
from converters.layouts import unet_to_diffusers, vae_to_diffusers

SD2 = replace(SMALL, context=1024, linear=True)
SDXL = replace(
    TRUE,
    channels=(32, 64, 128),
    attention=(False, True, True),
    depths=(0, 2, 10),
    context=2048,
    adm=2816,
    linear=True,
)
SDXL_LORA: dict[str, tuple[int, ...]] = {
    "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k": (640, 2048),
    "lora_te1_text_model_encoder_layers_0_mlp_fc1": (3072, 768),
    "lora_te2_text_model_encoder_layers_0_mlp_fc1": (5120, 1280),
}
HYPERNETWORK: Shapes = {
    f"{width}.{side}.linear.{index}.{part}": shape
    for width in (768, 64)
    for side in (0, 1)
    for index, sizes in ((0, (2 * width, width)), (2, (width, 2 * width)))
    for part, shape in (("weight", sizes), ("bias", sizes[:1]))
}
NOVELAI: Shapes = {
    f"{width}.{side}.linear{number}.{part}": shape
    for width in (320, 640, 768, 1280)
    for side in (0, 1)
    for number, sizes in ((1, (2 * width, width)), (2, (width, 2 * width)))
    for part, shape in (("weight", sizes), ("bias", sizes[:1]))
}


def diffusers(shapes: Shapes, kind: str) -> Shapes:
    convert = {"unet": unet_to_diffusers, "vae": vae_to_diffusers}[kind]
    return {name: tensor.shape for name, tensor in convert(state_dict(shapes)).items()}


Expected = tuple[Shapes, Kind, Base, str | None]


def model(base: Base, variant: str | None = None) -> tuple[Kind, Base, str | None]:
    return Kind.DIFFUSION_MODEL, base, variant


def names(*names: str) -> Shapes:
    """These names with some shape."""
    return dict.fromkeys(names, (1, 1))


def without(shapes: Shapes, *parts: str) -> Shapes:
    return {name: size for name, size in shapes.items() if not any(p in name for p in parts)}
