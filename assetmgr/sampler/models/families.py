"""What is particular to the renders of each family of Stable Diffusion.

Sources: Stability-AI/generative-models `configs/inference/*.yaml` (which layer conditions, the size
conditioning), huggingface/diffusers pipelines, arXiv 2307.01952 (SDXL).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from converters.bases import Base, Prediction
from converters.errors import UnsupportedFile
from converters.identify import Identity
from converters.layouts.flow_parts import CLIP_G, CLIP_L
from converters.layouts.pipeline import FIRST_ENCODER, SECOND_ENCODER

END = 49407
"""CLIP's end token, which also pads for CLIP-L; the OpenCLIP encoders pad with token 0."""

VARIANTS = (
    *(None, "inpaint", "pix2pix", "playground-v2.5"),
    *("ssd-1b", "vega", "koala-700m", "koala-1b", "tiny", "sdxs"),
)
"""Variants of the families of UNets that are rendered."""

FLOW_VARIANTS = (None, "medium", "3.5-medium", "3.5-large", "dev", "schnell")
PREDICTIONS = (Prediction.EPSILON, Prediction.V, Prediction.EDM, Prediction.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a text encoder's output is used.

    `least_skip`: the layer that is taken, counted from the end as "clip skip" does: 1 is the last.
    `cut`: how many layers of the end are not stored, because none takes them. `norm`: whether the
    final norm follows. `pooled`: its projection of the end token conditions the UNet too.
    """

    component: str
    padding: int
    least_skip: int = 1
    cut: int = 0
    norm: bool = True
    pooled: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """A family: its encoders, its natural size in pixels, and how the UNet is told of sizes.

    `aesthetic` is the score that a refiner is told for the prompt and for the negative one, in
    place of the target's size; None in families that know none. `flow` families are transformers
    that take T5's encoding too, and are sampled on straight lines. `cfg` is the usual guidance.
    `half` is the narrow type that they were trained in: values of Flux leave the range of fp16, by
    which diffusers cuts them off there.
    """

    encoders: tuple[Encoding, ...]
    size: int
    told_sizes: bool = False
    aesthetic: tuple[float, float] | None = None
    flow: bool = False
    cfg: float = 7.0
    half: str = "fp16"


_BIG = Encoding(SECOND_ENCODER, 0, least_skip=2, norm=False, pooled=True)

FAMILIES: Mapping[Base, Family] = {
    Base.SD1: Family((Encoding(FIRST_ENCODER, END),), 512),
    Base.SD2: Family((Encoding(FIRST_ENCODER, 0, least_skip=2, cut=1),), 768),
    Base.SDXL: Family(
        (Encoding(FIRST_ENCODER, END, least_skip=2, norm=False), _BIG), 1024, told_sizes=True
    ),
    Base.SDXL_REFINER: Family((_BIG,), 1024, told_sizes=True, aesthetic=(6.0, 2.5)),
    Base.SD3: Family(
        (
            Encoding(CLIP_L, END, least_skip=2, norm=False, pooled=True),
            Encoding(CLIP_G, 0, least_skip=2, norm=False, pooled=True),
        ),
        1024,
        flow=True,
        cfg=4.5,
    ),
    Base.FLUX: Family((Encoding(CLIP_L, END, pooled=True),), 1024, flow=True, cfg=3.5, half="bf16"),
}


def half_of(family: str) -> str:
    """The narrow type that suits a family; fp16 where it is not known."""
    known = FAMILIES.get(Base(family))
    return "fp16" if known is None else known.half


def natural_size(base: Base, prediction: Prediction) -> int:
    """Edge in pixels of the pictures of its training; SD2 that predicts noise had smaller ones."""
    is_small = base is Base.SD2 and prediction is Prediction.EPSILON
    return 512 if is_small else FAMILIES[base].size


def not_rendered(base: Base) -> UnsupportedFile:
    """Says of a family that its models cannot be rendered, and whose can."""
    known = ", ".join(each.label for each in FAMILIES)
    cause = f"models of {base.label} cannot be rendered yet"
    return UnsupportedFile(cause, hint=f"those of {known} can")


def family_of(identity: Identity) -> Family:
    """The family of a checkpoint. Raises UnsupportedFile for what is not rendered yet."""
    family = FAMILIES.get(identity.base)
    if family is None:
        raise not_rendered(identity.base)
    if identity.variant not in (FLOW_VARIANTS if family.flow else VARIANTS):
        raise UnsupportedFile(f"not supported yet: variant {identity.variant}")
    if not family.flow and identity.prediction not in PREDICTIONS:
        raise UnsupportedFile(f"not supported yet: prediction {identity.prediction}")
    return family
