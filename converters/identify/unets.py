"""UNet families: one row per family, told apart by widths and depths alone.

Source: ComfyUI `comfy/model_detection.py` and `comfy/supported_models.py`, Stability-AI/
generative-models configurations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from converters.identify.identity import Base, Prediction
from converters.statedict import LazyTensor, StateDict

_LDM_HEADS = ("model.diffusion_model.", "")
_CONTEXT = ".attn2.to_k.weight"
_VIDEO = re.compile(r"\.(?:time_stack|time_mixer|motion_modules|temporal_transformer)\.")


@dataclass(frozen=True, slots=True)
class UNetFacts:
    """What tells UNet families apart.

    `context`: width of the text context; `adm`: width of the vector conditioning; `linear`:
    whether the projections around the transformer are linear layers; `depth`: transformer blocks
    of the deepest attention; None where the deciding tensor is absent. `head` is the prefix of the
    UNet's tensors.
    """

    head: str
    layout: str
    in_channels: int | None
    context: int | None
    context_tensor: str
    adm: int | None
    linear: bool | None
    depth: int
    video: bool


@dataclass(frozen=True, slots=True)
class Family:
    """A row: the facts a UNet family has."""

    base: Base
    context: int
    adm: int | None
    linear: bool
    max_depth: int
    prediction: Prediction

    def claims(self, facts: UNetFacts) -> bool:
        """Whether a UNet of these facts is of this family."""
        return (
            facts.context == self.context
            and facts.adm == self.adm
            and facts.linear == self.linear
            and 1 <= facts.depth <= self.max_depth
            and not facts.video
        )


FAMILIES = (
    Family(Base.SD1, 768, None, False, 1, Prediction.EPSILON),
    Family(Base.SD2, 1024, None, True, 1, Prediction.UNKNOWN),
    Family(Base.SD2, 1024, None, False, 1, Prediction.UNKNOWN),  # old exports with convolutions
    Family(Base.SD2, 1024, 1536, True, 1, Prediction.UNKNOWN),  # unCLIP-L
    Family(Base.SD2, 1024, 2048, True, 1, Prediction.UNKNOWN),  # unCLIP-H
    Family(Base.SDXL, 2048, 2816, True, 10, Prediction.EPSILON),
    Family(Base.SDXL_REFINER, 1280, 2560, True, 4, Prediction.EPSILON),
)

VARIANTS = {4: None, 9: "inpaint", 8: "pix2pix", 5: "depth", 7: "upscale"}
"""Input channels -> variant: 4 noise; + mask and masked image; + picture; + depth; + low image."""


def family_of(facts: UNetFacts) -> Family | None:
    """The family of a UNet, or None when its facts fit none."""
    return next((family for family in FAMILIES if family.claims(facts)), None)


def unet_facts(sd: StateDict) -> UNetFacts:
    """The facts of the UNet in a file that has one, under LDM or diffusers names."""
    for head in _LDM_HEADS:
        if any(n.startswith((f"{head}input_blocks.", f"{head}output_blocks.")) for n in sd):
            return _facts(sd, head, "ldm", "input_blocks.0.0", "label_emb.0.0")
    return _facts(sd, "", "diffusers", "conv_in", "add_embedding.linear_1")


def _facts(sd: StateDict, head: str, layout: str, first: str, conditioning: str) -> UNetFacts:
    names = [name for name in sd if name.startswith(head)]
    context_tensor = next((name for name in names if name.endswith(_CONTEXT)), "")
    depths = [int(m[1]) for n in names if (m := re.search(r"\.transformer_blocks\.(\d+)\.", n))]
    return UNetFacts(
        head=head,
        layout=layout,
        in_channels=_inner(sd, f"{head}{first}.weight"),
        context=_inner(sd, context_tensor),
        context_tensor=context_tensor,
        adm=_inner(sd, f"{head}{conditioning}.weight"),
        linear=_linear(sd, names),
        depth=max(depths, default=-1) + 1,
        video=any(_VIDEO.search(name) for name in names),
    )


def _linear(sd: Mapping[str, LazyTensor], names: list[str]) -> bool | None:
    projection = next((sd[name] for name in names if name.endswith(".proj_in.weight")), None)
    return None if projection is None else len(projection.shape) == 2


def _inner(sd: Mapping[str, LazyTensor], name: str) -> int | None:
    tensor = sd.get(name)
    return tensor.shape[1] if tensor is not None and len(tensor.shape) >= 2 else None
