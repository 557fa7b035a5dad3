"""The UNet of the Stable Diffusion 1 family: LDM names <-> diffusers names, and its configuration.

Everything follows from the names and shapes present, so any number of levels and any width works;
with the widths of SD1.5 the result equals the state dict of diffusers' UNet2DConditionModel.
Source of the rules: CompVis/stable-diffusion `ldm/modules/diffusionmodules/openaimodel.py` and
huggingface/diffusers `src/diffusers/loaders/single_file_utils.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from converters.errors import CorruptFile
from converters.layouts.components import PREFIXES, UNET, own_or_component
from converters.layouts.namemap import NameMap, check_counts, joined
from converters.statedict import LazyTensor, StateDict

RESNET = (
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
)
"""Modules of a residual block, (LDM, diffusers)."""

ENDS = (
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("label_emb.0.0", "add_embedding.linear_1"),
    ("label_emb.0.2", "add_embedding.linear_2"),
    ("input_blocks.0.0", "conv_in"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
)
"""Modules outside the levels, (LDM, diffusers)."""

_ATTENTION = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn2.to_q", "attn2.to_k", "attn2.to_v")
_BIASED = (
    *("attn1.to_out.0", "attn2.to_out.0", "norm1", "norm2", "norm3", "ff.net.0.proj", "ff.net.2"),
)


@dataclass(frozen=True, slots=True)
class UNetConfig:
    """What is needed to build the network, read from shapes.

    Heads and norm groups leave no trace in the tensors; SD1 has 8 heads at every level and 32
    groups. `attention`, `up_attention` and `depths` (transformer blocks per attention module) count
    from the outermost level, `down_depths` and `up_depths` are those of each layer of a level on
    the way down and on the way up, which distilled networks have in different numbers.
    `middle_blocks` is the number of residual blocks in the middle, and `middle_depth` 0 without a
    transformer there. `vector_conditioning` is the width of what SDXL adds to the time embedding,
    `guidance_width` that of the guidance told to latent consistency models; None where there is no
    such.
    """

    in_channels: int
    out_channels: int
    block_out_channels: tuple[int, ...]
    layers_per_block: int
    attention: tuple[bool, ...]
    depths: tuple[int, ...]
    cross_attention_dim: int
    linear_projection: bool
    down_depths: tuple[tuple[int, ...], ...] = ()
    up_depths: tuple[tuple[int, ...], ...] = ()
    up_attention: tuple[bool, ...] = ()
    middle_blocks: int = 2
    middle_depth: int = 1
    vector_conditioning: int | None = None
    guidance_width: int | None = None
    heads: int = 8
    norm_groups: int = 32

    @property
    def levels(self) -> int:
        """Number of resolutions."""
        return len(self.block_out_channels)


@dataclass(frozen=True, slots=True)
class Skeleton:
    """The structure that decides names: layers per level, and which levels have attention.

    Levels count from the outermost, on the way up too, where it may be others that have it.
    """

    layers: int
    attention: tuple[bool, ...]
    up_attention: tuple[bool, ...] | None = None

    @property
    def levels(self) -> int:
        """Number of resolutions."""
        return len(self.attention)

    @property
    def ups(self) -> tuple[bool, ...]:
        """Which levels have attention on the way up: the same ones unless told otherwise."""
        return self.attention if self.up_attention is None else self.up_attention

    def name_map(self) -> NameMap:
        """LDM -> diffusers module paths."""
        return NameMap.of([*ENDS, *self._down(), *self._middle(), *self._up()])

    def _down(self) -> Iterator[tuple[str, str]]:
        for level, attends in enumerate(self.attention):
            for layer in range(self.layers):
                left = f"input_blocks.{1 + level * (self.layers + 1) + layer}"
                right = f"down_blocks.{level}"
                yield from joined(f"{left}.0", f"{right}.resnets.{layer}", RESNET)
                if attends:
                    yield f"{left}.1", f"{right}.attentions.{layer}"
            if level < self.levels - 1:
                left = f"input_blocks.{(level + 1) * (self.layers + 1)}.0.op"
                yield left, f"down_blocks.{level}.downsamplers.0.conv"

    def _middle(self) -> Iterator[tuple[str, str]]:
        yield from joined("middle_block.0", "mid_block.resnets.0", RESNET)
        yield "middle_block.1", "mid_block.attentions.0"
        yield from joined("middle_block.2", "mid_block.resnets.1", RESNET)

    def _up(self) -> Iterator[tuple[str, str]]:
        for block, attends in enumerate(reversed(self.ups)):
            first = block * (self.layers + 1)
            for layer in range(self.layers + 1):
                left, right = f"output_blocks.{first + layer}", f"up_blocks.{block}"
                yield from joined(f"{left}.0", f"{right}.resnets.{layer}", RESNET)
                if attends:
                    yield f"{left}.1", f"{right}.attentions.{layer}"
            if block < self.levels - 1:
                left = f"output_blocks.{first + self.layers}.{2 if attends else 1}.conv"
                yield left, f"up_blocks.{block}.upsamplers.0.conv"


def is_diffusers_unet(sd: Mapping[str, LazyTensor]) -> bool:
    """Whether the tensors carry diffusers names."""
    return "down_blocks.0.resnets.0.conv1.weight" in sd


def ldm_skeleton(sd: Mapping[str, LazyTensor]) -> Skeleton:
    """The structure of a UNet with LDM names (no prefix). Raises CorruptFile when it has none."""
    downs = _numbers(sd, r"input_blocks\.(\d{1,6})\.0\.op\.weight")
    blocks = _numbers(sd, r"input_blocks\.(\d{1,6})\.0\.in_layers\.2\.weight")
    if not blocks:
        raise CorruptFile("the UNet has no residual blocks (input_blocks.1.0.in_layers.2.weight)")
    layers = downs[0] - 1 if downs else len(blocks)
    levels = len(downs) + 1
    check_counts("UNet", levels, layers)
    first = [1 + level * (layers + 1) for level in range(levels)]
    last = [(levels - 1 - level) * (layers + 1) for level in range(levels)]
    return Skeleton(
        layers,
        tuple(f"input_blocks.{k}.1.norm.weight" in sd for k in first),
        tuple(f"output_blocks.{k}.1.norm.weight" in sd for k in last),
    )


def diffusers_skeleton(sd: Mapping[str, LazyTensor]) -> Skeleton:
    """The structure of a UNet with diffusers names. Raises CorruptFile when it has none."""
    levels = len(_numbers(sd, r"down_blocks\.(\d{1,6})\.resnets\.0\.conv1\.weight"))
    layers = len(_numbers(sd, r"down_blocks\.0\.resnets\.(\d{1,6})\.conv1\.weight"))
    if not levels or not layers:
        raise CorruptFile("the UNet has no residual blocks (down_blocks.0.resnets.0.conv1.weight)")
    check_counts("UNet", levels, layers)
    norm = "attentions.0.norm.weight"
    return Skeleton(
        layers,
        tuple(f"down_blocks.{level}.{norm}" in sd for level in range(levels)),
        tuple(f"up_blocks.{levels - 1 - level}.{norm}" in sd for level in range(levels)),
    )


def unet_to_diffusers(sd: StateDict) -> StateDict:
    """The UNet of a checkpoint or of a UNet-only file under diffusers names, without prefix."""
    unet = own_or_component(sd, UNET)
    if is_diffusers_unet(unet):
        return unet
    return ldm_skeleton(unet).name_map().apply(unet)


def unet_to_ldm(sd: StateDict) -> StateDict:
    """A UNet with diffusers names under the names and prefix of a single-file checkpoint."""
    renamed = diffusers_skeleton(sd).name_map().inverse.apply(sd)
    return renamed.rename(lambda name: PREFIXES[UNET][0] + name)


def unet_config(sd: StateDict) -> UNetConfig:
    """The configuration of a checkpoint's UNet, in either layout. Raises CorruptFile."""
    unet = unet_to_diffusers(sd)
    skeleton = diffusers_skeleton(unet)
    channels = [
        _shape(unet, f"down_blocks.{level}.resnets.0.conv1.weight")[0]
        for level in range(skeleton.levels)
    ]
    context, linear = _context(unet)
    levels, layers = range(skeleton.levels), skeleton.layers
    ups = [skeleton.levels - 1 - level for level in levels]
    return UNetConfig(
        in_channels=_shape(unet, "conv_in.weight")[1],
        out_channels=_shape(unet, "conv_out.weight")[0],
        block_out_channels=tuple(channels),
        layers_per_block=skeleton.layers,
        attention=skeleton.attention,
        depths=tuple(_depth(unet, f"down_blocks.{n}") for n in levels),
        cross_attention_dim=context,
        linear_projection=linear,
        down_depths=tuple(_depths(unet, f"down_blocks.{n}", layers) for n in levels),
        up_depths=tuple(_depths(unet, f"up_blocks.{n}", layers + 1) for n in ups),
        up_attention=skeleton.ups,
        middle_blocks=len(_numbers(unet, r"mid_block\.resnets\.(\d{1,6})\.conv1\.weight")),
        middle_depth=_depth(unet, "mid_block"),
        vector_conditioning=_inner_width(unet, "add_embedding.linear_1.weight"),
        guidance_width=_inner_width(unet, "time_embedding.cond_proj.weight"),
    )


def expected_tensors(sd: Mapping[str, LazyTensor]) -> tuple[str, ...]:
    """The LDM names that a complete UNet of this one's structure has.

    A shortcut convolution belongs to the blocks that change the number of channels: on the way
    down those whose input is narrower, on the way up all.
    """
    skeleton = ldm_skeleton(sd)
    names: list[str] = []
    for left, right in skeleton.name_map().forward.items():
        if right.startswith("add_embedding"):
            continue
        if ".attentions." in right:
            names += _attention_tensors(left, max(1, _depth(sd, left)))
        elif not right.endswith("conv_shortcut") or _has_shortcut(sd, left, right):
            names += (f"{left}.weight", f"{left}.bias")
    return tuple(names)


def _has_shortcut(sd: Mapping[str, LazyTensor], left: str, right: str) -> bool:
    if right.startswith("up_blocks"):
        return True
    conv = sd.get(left.replace("skip_connection", "in_layers.2.weight"))
    return conv is not None and len(conv.shape) == 4 and conv.shape[0] != conv.shape[1]


def _attention_tensors(path: str, depth: int) -> list[str]:
    names = [f"{path}.{m}.{p}" for m in ("norm", "proj_in", "proj_out") for p in ("weight", "bias")]
    for block in range(depth):
        inner = f"{path}.transformer_blocks.{block}"
        names += [f"{inner}.{module}.weight" for module in _ATTENTION]
        names += [f"{inner}.{module}.{p}" for module in _BIASED for p in ("weight", "bias")]
    return names


def _inner_width(unet: Mapping[str, LazyTensor], name: str) -> int | None:
    return _shape(unet, name)[1] if name in unet else None


def _context(unet: Mapping[str, LazyTensor]) -> tuple[int, bool]:
    for name, tensor in unet.items():
        if name.endswith(".attn2.to_k.weight") and len(tensor.shape) == 2:
            outer = name[: name.index(".transformer_blocks.")]
            return tensor.shape[1], len(_shape(unet, f"{outer}.proj_in.weight")) == 2
    raise CorruptFile("the UNet has no cross-attention (attn2.to_k.weight)")


def _depth(sd: Mapping[str, LazyTensor], path: str) -> int:
    found = re.compile(re.escape(path) + r"\.(?:attentions\.0\.)?transformer_blocks\.(\d{1,6})\.")
    return len({m.group(1) for name in sd if (m := found.match(name))})


def _depths(sd: Mapping[str, LazyTensor], path: str, layers: int) -> tuple[int, ...]:
    """Transformer blocks beside each residual block of a level, under diffusers names."""
    found = re.compile(
        re.escape(path) + r"\.attentions\.(\d{1,6})\.transformer_blocks\.(\d{1,6})\."
    )
    there = {(int(m[1]), int(m[2])) for name in sd if (m := found.match(name))}
    return tuple(sum(layer == place for place, _ in there) for layer in range(layers))


def _numbers(sd: Mapping[str, LazyTensor], pattern: str) -> list[int]:
    compiled = re.compile(pattern)
    return sorted(int(m.group(1)) for name in sd if (m := compiled.fullmatch(name)))


def _shape(sd: Mapping[str, LazyTensor], name: str) -> tuple[int, ...]:
    tensor = sd.get(name)
    if tensor is None or len(tensor.shape) < 2:
        raise CorruptFile(f"the UNet lacks {name}, or its shape is wrong")
    return tensor.shape
