"""The model families, in the words of the command-line contract."""

from __future__ import annotations

from enum import StrEnum


class Base(StrEnum):
    """The model family a file belongs to or was made for."""

    SD1 = "sd-1"
    SD2 = "sd-2"
    SDXL = "sdxl"
    SDXL_REFINER = "sdxl-refiner"
    SD_UPSCALER = "sd-x4-upscaler"
    SVD = "svd"
    SV3D = "sv3d"
    LOTUS = "lotus"
    KOLORS = "kolors"
    SD3 = "sd-3"
    CASCADE = "stable-cascade"
    FLUX = "flux"
    FLUX2 = "flux-2"
    CHROMA = "chroma"
    LONGCAT = "longcat-image"
    OVIS = "ovis-image"
    AURAFLOW = "auraflow"
    HUNYUAN_DIT = "hunyuan-dit"
    HUNYUAN_IMAGE = "hunyuan-image"
    HUNYUAN_VIDEO = "hunyuan-video"
    MOCHI = "mochi"
    PIXART = "pixart"
    SANA = "sana"
    LTX = "ltx-video"
    LTX2 = "ltx-2"
    COGVIDEOX = "cogvideox"
    COSMOS1 = "cosmos-1"
    COSMOS2 = "cosmos-predict2"
    ANIMA = "anima"
    LUMINA2 = "lumina-2"
    NEWBIE = "newbie"
    Z_IMAGE = "z-image"
    WAN = "wan"
    HIDREAM = "hidream"
    OMNIGEN2 = "omnigen-2"
    BOOGU = "boogu"
    QWEN_IMAGE = "qwen-image"
    MAGE_FLOW = "mage-flow"
    KANDINSKY5 = "kandinsky-5"
    KREA2 = "krea-2"
    IDEOGRAM4 = "ideogram-4"
    ERNIE_IMAGE = "ernie-image"
    LENS = "lens"
    ANY = "any"
    UNKNOWN = "unknown"

    @property
    def label(self) -> str:
        """The family's name in a sentence."""
        return _LABELS.get(self, self.value)


_LABELS = {
    Base.SD1: "SD1",
    Base.SD2: "SD2",
    Base.SDXL: "SDXL",
    Base.SDXL_REFINER: "the SDXL refiner",
    Base.SD_UPSCALER: "the x4 upscaler of SD2",
    Base.SVD: "Stable Video Diffusion",
    Base.KOLORS: "Kolors",
    Base.SD3: "SD3",
    Base.CASCADE: "Stable Cascade",
    Base.FLUX: "Flux",
    Base.FLUX2: "Flux.2",
    Base.CHROMA: "Chroma",
    Base.QWEN_IMAGE: "Qwen-Image",
    Base.Z_IMAGE: "Z-Image",
    Base.LUMINA2: "Lumina 2",
    Base.WAN: "Wan",
    Base.HUNYUAN_VIDEO: "HunyuanVideo",
    Base.HUNYUAN_IMAGE: "HunyuanImage",
    Base.UNKNOWN: "an unknown family",
}

CONTEXT_WIDTH = {Base.SD1: 768, Base.SD2: 1024, Base.SDXL: 2048, Base.SDXL_REFINER: 1280}
"""Width of the text context that the cross-attention of a UNet family takes."""

BASE_OF_WIDTH = {width: base for base, width in CONTEXT_WIDTH.items()}
"""The family that takes a text context of this width."""


class Prediction(StrEnum):
    """What the denoiser was trained to predict."""

    EPSILON = "epsilon"
    V = "v"
    EDM = "edm"
    FLOW = "flow"
    UNKNOWN = "unknown"
