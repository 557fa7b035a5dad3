"""The transformers of SD3 and Flux: names of their authors' files -> names of diffusers.

Most layers differ in name alone or are rows of a fused matrix. The last modulation of both families
(and the text half of SD3's last block) has its halves the other way round: shift and scale there,
scale and shift in diffusers. Sources: huggingface/diffusers `loaders/single_file_utils.py`,
black-forest-labs/flux `modules/layers.py`, Stability-AI/sd3-ref `mmdit.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isqrt

from converters.adapters.fused import has_halves_swapped, parts_of
from converters.bases import Base
from converters.errors import CorruptFile
from converters.statedict import LazyTensor, Plain, StateDict, concat0

Json = dict[str, Plain]

_PLAIN = {"pos_embed": "pos_embed.pos_embed"}
_NORM = re.compile(
    r"(double_blocks|single_blocks|joint_blocks)\.(\d+)\.(?:(img_|txt_|x_block\.|context_block\.)"
    r"(attn2?)\.)?(?:norm\.)?(query_norm|key_norm|ln_q|ln_k)\.(?:scale|weight)"
)
_BLOCKS = {
    "double_blocks": "transformer_blocks",
    "single_blocks": "single_transformer_blocks",
    "joint_blocks": "transformer_blocks",
}
_OF_TEXT = ("txt_", "context_block.")
_HEAD_WIDTH = 64
"""Channels of a head of SD3; with norms of queries and keys their size tells."""

_AXES = (2, 7, 7)
"""Shares of a head of Flux that tell the text's place, the row and the column (16, 56, 56)."""


def is_original(sd: Mapping[str, LazyTensor]) -> bool:
    """Whether a transformer (names without prefix) carries the names of its authors."""
    return any(name.startswith(tuple(_BLOCKS)) for name in sd)


def mmdit_to_diffusers(sd: StateDict) -> StateDict:
    """A transformer (names without prefix) as diffusers names it; reads nothing.

    Raises CorruptFile for a fused matrix that does not divide, and for a name that occurs twice.
    """
    if not is_original(sd):
        return sd
    made: dict[str, LazyTensor] = {}
    for name, tensor in _mapped(sd):
        if name in made:
            raise CorruptFile(f"a tensor is there under two spellings: {name}")
        made[name] = tensor
    return StateDict(made, sd.metadata, sd.extras)


def _mapped(sd: StateDict) -> Iterator[tuple[str, LazyTensor]]:
    for name, tensor in sd.items():
        path, _, kind = name.rpartition(".")
        weight = sd.get(f"{path}.weight")
        if name in _PLAIN:
            yield _PLAIN[name], tensor
        elif norm := _norm(name):
            yield norm, tensor
        elif weight is not None and (parts := list(parts_of(path, weight.shape))):
            for layer, rows in parts:
                yield f"{layer}.{kind}", _cut(name, _turned(name, weight, tensor), rows)
        else:
            yield name, tensor


def _norm(name: str) -> str | None:
    match = _NORM.fullmatch(name)
    if match is None:
        return None
    letter = "q" if match[5] in ("query_norm", "ln_q") else "k"
    side = "added_" if match[3] in _OF_TEXT else ""
    return f"{_BLOCKS[match[1]]}.{match[2]}.{match[4] or 'attn'}.norm_{side}{letter}.weight"


def _turned(name: str, weight: LazyTensor, tensor: LazyTensor) -> LazyTensor:
    path = name.rpartition(".")[0]
    return _halves_swapped(name, tensor) if has_halves_swapped(path, weight.shape) else tensor


def _halves_swapped(name: str, tensor: LazyTensor) -> LazyTensor:
    if not tensor.shape or tensor.shape[0] % 2:
        raise CorruptFile(f"{name} of shape {list(tensor.shape)} is not a shift and a scale")
    half = tensor.shape[0] // 2
    return concat0([tensor.slice0(half, 2 * half), tensor.slice0(0, half)])


def _cut(name: str, tensor: LazyTensor, rows: tuple[int, int] | None) -> LazyTensor:
    if rows is None:
        return tensor
    if not tensor.shape or tensor.shape[0] < rows[1]:
        raise CorruptFile(f"{name} of shape {list(tensor.shape)} has less rows than its weight")
    return tensor.slice0(*rows)


@dataclass(frozen=True, slots=True)
class TextSizes:
    """What a transformer wants of its text encoders: width of a token, width of the summary."""

    token: int
    pooled: int


def text_sizes(sd: StateDict) -> TextSizes:
    """The widths that a transformer with diffusers names takes. Raises CorruptFile."""
    return TextSizes(
        _size(sd, "context_embedder.weight", 1),
        _size(sd, "time_text_embed.text_embedder.linear_1.weight", 1),
    )


def mmdit_config(base: Base, sd: StateDict) -> Json:
    """The arguments of diffusers' class for a transformer with its names, from the shapes.

    Raises CorruptFile where tensors that tell them are missing.
    """
    return _flux(sd) if base is Base.FLUX else _sd3(sd)


def _sd3(sd: StateDict) -> Json:
    patches = "pos_embed.proj.weight"
    width, patch = _size(sd, patches, 0), _size(sd, patches, -1)
    normed = "transformer_blocks.0.attn.norm_q.weight"
    head = _size(sd, normed, 0) if normed in sd else _HEAD_WIDTH
    layers = _count(sd, "transformer_blocks")
    text = text_sizes(sd)
    dual: list[Plain] = [
        n for n in range(layers) if f"transformer_blocks.{n}.attn2.to_q.weight" in sd
    ]
    edge = isqrt(_size(sd, "pos_embed.pos_embed", 1))
    return {
        "sample_size": edge,
        "patch_size": patch,
        "in_channels": _size(sd, patches, 1),
        "out_channels": _size(sd, "proj_out.weight", 0) // max(1, patch * patch),
        "num_layers": layers,
        "attention_head_dim": head,
        "num_attention_heads": width // max(1, head),
        "joint_attention_dim": text.token,
        "caption_projection_dim": _size(sd, "context_embedder.weight", 0),
        "pooled_projection_dim": text.pooled,
        "pos_embed_max_size": edge,
        "dual_attention_layers": dual,
        "qk_norm": "rms_norm" if normed in sd else None,
    }


def _flux(sd: StateDict) -> Json:
    head = _size(sd, "transformer_blocks.0.attn.norm_q.weight", 0)
    text = text_sizes(sd)
    axes: list[Plain] = [share * head // sum(_AXES) for share in _AXES]
    return {
        "patch_size": 1,
        "in_channels": _size(sd, "x_embedder.weight", 1),
        "out_channels": _size(sd, "proj_out.weight", 0),
        "num_layers": _count(sd, "transformer_blocks"),
        "num_single_layers": _count(sd, "single_transformer_blocks"),
        "attention_head_dim": head,
        "num_attention_heads": _size(sd, "x_embedder.weight", 0) // max(1, head),
        "joint_attention_dim": text.token,
        "pooled_projection_dim": text.pooled,
        "guidance_embeds": "time_text_embed.guidance_embedder.linear_1.weight" in sd,
        "axes_dims_rope": axes,
    }


def _count(sd: StateDict, blocks: str) -> int:
    """Blocks of a name; never more than there are tensors, whatever number a name carries."""
    block = re.compile(rf"{blocks}\.(\d{{1,6}})\.")
    found = max((int(m[1]) + 1 for name in sd if (m := block.match(name))), default=0)
    return min(found, len(sd))


def _size(sd: StateDict, name: str, axis: int) -> int:
    tensor = sd.get(name)
    if tensor is None or not -len(tensor.shape) <= axis < len(tensor.shape):
        raise CorruptFile(f"the transformer lacks {name}, or its shape is wrong")
    return tensor.shape[axis]
