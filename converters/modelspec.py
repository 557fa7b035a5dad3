"""ModelSpec's words: the id of a family with its variant and kind, who implements it, its size.

Sources: Stability-AI/ModelSpec `README.md`; kohya-ss/sd-scripts `library/sai_model_spec.py` for
resolutions and implementations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from converters.bases import Base, Prediction

COMPVIS = "https://github.com/CompVis/stable-diffusion"
STABILITY = "https://github.com/Stability-AI/generative-models"

SUFFIXES: Mapping[str, str] = {
    "checkpoint": "",
    "lora": "/lora",
    "embedding": "/textual-inversion",
    "hypernetwork": "/hypernetwork",
    "controlnet": "/controlnet",
    "vae": "/vae",
}
"""Kind -> what follows the id of its family."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """`resolution` is the width and height of pictures, `channels` the first layer's."""

    name: str
    implementation: str
    resolution: int
    channels: int


_SD1 = Architecture("stable-diffusion-v1", COMPVIS, 512, 320)
_SD1_INPAINT = Architecture("stable-diffusion-v1-inpainting", COMPVIS, 512, 320)
_SD2 = Architecture("stable-diffusion-v2-512", STABILITY, 512, 320)
_SD2_V = Architecture("stable-diffusion-v2-768-v", STABILITY, 768, 320)
_SD2_INPAINT = Architecture("stable-diffusion-v2-inpainting", STABILITY, 512, 320)
_SD2_DEPTH = Architecture("stable-diffusion-v2-depth", STABILITY, 512, 320)
_SDXL = Architecture("stable-diffusion-xl-v1-base", STABILITY, 1024, 320)
_SDXL_EDIT = Architecture("stable-diffusion-xl-v1-edit", STABILITY, 1024, 320)
_REFINER = Architecture("stable-diffusion-xl-v1-refiner", STABILITY, 1024, 384)

_ROWS: Mapping[tuple[str, str | None], Architecture] = {
    (Base.SD1, None): _SD1,
    (Base.SD1, "inpaint"): _SD1_INPAINT,
    (Base.SD2, "inpaint"): _SD2_INPAINT,
    (Base.SD2, "depth"): _SD2_DEPTH,
    (Base.SDXL, None): _SDXL,
    (Base.SDXL, "pix2pix"): _SDXL_EDIT,
    (Base.SDXL_REFINER, None): _REFINER,
}
_BY_PREDICTION: Mapping[str | None, Architecture] = {
    Prediction.EPSILON: _SD2,
    Prediction.V: _SD2_V,
}


def architecture_of(
    base: str, variant: str | None = None, prediction: str | None = None
) -> Architecture | None:
    """The row of a model; None where ModelSpec has none, or it would be a guess."""
    if base == Base.SD2 and variant is None:
        return _BY_PREDICTION.get(prediction)
    return _ROWS.get((base, variant))
