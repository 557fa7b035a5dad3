"""The answer of identification, in the words of the command-line contract."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a file is."""

    CHECKPOINT = "checkpoint"
    LORA = "lora"
    EMBEDDING = "embedding"
    HYPERNETWORK = "hypernetwork"
    VAE = "vae"
    CONTROLNET = "controlnet"
    T2I_ADAPTER = "t2i-adapter"
    IP_ADAPTER = "ip-adapter"
    DIFFUSION_MODEL = "diffusion-model"
    TEXT_ENCODER = "text-encoder"
    CLIP_VISION = "clip-vision"
    UPSCALER = "upscaler"
    MOTION_MODULE = "motion-module"
    OTHER = "other"
    UNKNOWN = "unknown"


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


@dataclass(frozen=True, slots=True)
class Component:
    """A part of the file (`unet`, `vae`, `text_encoder`, `unet_ema`, `other`) and its size."""

    name: str
    tensors: int
    parameters: int


CERTAIN = 1.0
"""Names and shapes leave no other reading."""

BROKEN = 0.9
"""Recognised, but parts are missing."""

SHARED = 0.6
"""The most usual of several families that share these names and shapes."""

NONE = 0.0
"""Not recognised."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a file is, how sure that is, and why.

    `confidence` (0..1) is about what is claimed: the kind, and the base unless that is unknown.
    `evidence` are short sentences naming the tensors that decided; `problems` say what is missing
    or wrong in a file that was recognised nevertheless. `rank` is that of most modules of an
    adapter.
    """

    kind: Kind
    base: Base = Base.UNKNOWN
    variant: str | None = None
    prediction: Prediction = Prediction.UNKNOWN
    layout: str | None = None
    algorithm: tuple[str, ...] = ()
    rank: int | None = None
    confidence: float = CERTAIN
    evidence: tuple[str, ...] = ()
    components: tuple[Component, ...] = ()
    trigger_words: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
