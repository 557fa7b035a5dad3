"""What the tensors of a UNet tell about its family, under LDM or diffusers names.

Source of what matters: ComfyUI `comfy/model_detection.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from converters.identify.names import Names

_VIDEO = (
    *(".time_stack.", ".time_mixer.", ".motion_modules.", ".temporal_transformer"),
    *(".temp_convs.", ".temp_attentions.", ".temopral_conv."),  # as ModelScope misspells it
)
_CONDITIONING = {
    "ldm": ("label_emb.0.0.weight",),
    "diffusers": ("add_embedding.linear_1.weight", "class_embedding.linear_1.weight"),
}
_LDM = ("\ninput_blocks.", "\nmiddle_block.", "\noutput_blocks.")
_LDM_BLOCKS = re.compile(r"^input_blocks\.(\d+)\.0\.in_layers\.2\.weight$", re.MULTILINE)
_LDM_DEPTHS = re.compile(r"^input_blocks\.(\d+)\.1\.transformer_blocks\.(\d+)\.", re.MULTILINE)
_BLOCKS = re.compile(r"^down_blocks\.(\d+)\.resnets\.(\d+)\.conv1\.weight$", re.MULTILINE)
_DEPTHS = re.compile(
    r"^down_blocks\.(\d+)\.attentions\.(\d+)\.transformer_blocks\.(\d+)\.", re.MULTILINE
)
_BLOCK = re.compile(r"\.transformer_blocks\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class UNetFacts:
    """What tells UNet families apart; None where the deciding tensor is absent.

    `channels` is the width of the first level, `context` that of the text context, `adm` that of
    the vector conditioning; `classes` whether a table of classes takes its place; `linear` whether
    the projections around the transformers are linear layers; `depths` the number of transformer
    blocks beside each residual block on the way down; `middle` whether there are any blocks in
    the middle.
    """

    layout: str | None
    channels: int | None
    in_channels: int | None
    context: int | None
    context_tensor: str
    adm: int | None
    classes: bool
    linear: bool | None
    depths: tuple[int, ...]
    deepest: int
    middle: bool
    video: bool


_NO_UNET = UNetFacts(
    layout=None,
    channels=None,
    in_channels=None,
    context=None,
    context_tensor="",
    adm=None,
    classes=False,
    linear=None,
    depths=(),
    deepest=0,
    middle=False,
    video=False,
)


def unet_facts(names: Names) -> UNetFacts:
    """The facts of a denoiser; `layout` is None when it is no UNet."""
    layout = _layout(names)
    if layout is None:
        return _NO_UNET
    ldm = layout == "ldm"
    first = "input_blocks.0.0.weight" if ldm else "conv_in.weight"
    context_tensor = names.ending("attn2.to_k.weight") or ""
    depths = _ldm_depths(names.text) if ldm else _diffusers_depths(names.text)
    return UNetFacts(
        layout=layout,
        channels=names.size(first, 0),
        in_channels=names.size(first, 1),
        context=names.size(context_tensor, 1),
        context_tensor=names.head + context_tensor,
        adm=next((names.size(name, 1) for name in _CONDITIONING[layout] if name in names), None),
        classes="label_emb.weight" in names or "class_embedding.weight" in names,
        linear=_linear(names),
        depths=depths,
        deepest=max((int(found) for found in set(_BLOCK.findall(names.text))), default=-1) + 1,
        middle=any(start in names.text for start in ("\nmiddle_block.", "\nmid_block.")),
        video=any(part in names.text for part in _VIDEO),
    )


def _layout(names: Names) -> str | None:
    bare = ("input_blocks.0.0.weight", "input_blocks.1.0.in_layers.2.weight")
    if any(name in names for name in bare):
        return "ldm"
    if names.head == "model.diffusion_model." and any(start in names.text for start in _LDM):
        return "ldm"
    ends = ("time_embedding.linear_1.weight", "conv_in.weight")
    resnets = (
        "down_blocks.0.resnets.0.conv1.weight",
        "down_blocks.0.resnets.0.spatial_res_block.conv1.weight",
        "mid_block.resnets.0.conv1.weight",
    )
    if any(name in names for name in ends) and any(name in names for name in resnets):
        return "diffusers"
    return None


def _ldm_depths(text: str) -> tuple[int, ...]:
    blocks = sorted(int(block) for block in _LDM_BLOCKS.findall(text))
    found = {(int(block), depth) for block, depth in set(_LDM_DEPTHS.findall(text))}
    return tuple(sum(place == block for place, _ in found) for block in blocks)


def _diffusers_depths(text: str) -> tuple[int, ...]:
    blocks = sorted((int(level), int(layer)) for level, layer in _BLOCKS.findall(text))
    found = {(int(level), int(layer), d) for level, layer, d in set(_DEPTHS.findall(text))}
    return tuple(sum(place == block for *place, _ in found) for block in map(list, blocks))


def _linear(names: Names) -> bool | None:
    projection = names.get(names.ending("proj_in.weight") or "")
    return None if projection is None else len(projection.shape) == 2
