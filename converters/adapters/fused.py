"""Layers of Flux and SD3 that a single file keeps in one matrix and diffusers in several.

Rows of `qkv` are queries, keys and values; those of Flux's `linear1` are these and the first layer
of the block's perceptron, which takes the rest. The last modulations have their halves the other
way round: shift and scale in a single file, scale and shift in diffusers. Source:
huggingface/diffusers `loaders/single_file_utils.py`, black-forest-labs/flux `modules/layers.py`,
Stability-AI/sd3-ref `mmdit.py`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import pairwise

from converters.adapters.module import Shape

_QKV = ("attn.to_q", "attn.to_k", "attn.to_v")
_ADDED = ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")
_DOUBLE = {
    "img_attn.qkv": _QKV,
    "txt_attn.qkv": _ADDED,
    "img_attn.proj": ("attn.to_out.0",),
    "txt_attn.proj": ("attn.to_add_out",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
    "img_mod.lin": ("norm1.linear",),
    "txt_mod.lin": ("norm1_context.linear",),
}
_SINGLE = {
    "linear1": (*_QKV, "proj_mlp"),
    "linear2": ("proj_out",),
    "modulation.lin": ("norm.linear",),
}
_JOINT = {
    "x_block.attn.qkv": _QKV,
    "context_block.attn.qkv": _ADDED,
    "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
    "x_block.attn.proj": ("attn.to_out.0",),
    "context_block.attn.proj": ("attn.to_add_out",),
    "x_block.attn2.proj": ("attn2.to_out.0",),
    "x_block.mlp.fc1": ("ff.net.0.proj",),
    "x_block.mlp.fc2": ("ff.net.2",),
    "context_block.mlp.fc1": ("ff_context.net.0.proj",),
    "context_block.mlp.fc2": ("ff_context.net.2",),
    "x_block.adaLN_modulation.1": ("norm1.linear",),
    "context_block.adaLN_modulation.1": ("norm1_context.linear",),
}
_BLOCKS = {
    "double_blocks": ("transformer_blocks", _DOUBLE),
    "single_blocks": ("single_transformer_blocks", _SINGLE),
    "joint_blocks": ("transformer_blocks", _JOINT),
}
_FINAL = {"final_layer.linear": "proj_out", "final_layer.adaLN_modulation.1": "norm_out.linear"}
_OUTER_OF_FLUX = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    **_FINAL,
}
_OUTER_OF_SD3 = {
    "x_embedder.proj": "pos_embed.proj",
    "context_embedder": "context_embedder",
    "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
    "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
    "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
    **_FINAL,
}
_OUTER = {**_OUTER_OF_FLUX, **_OUTER_OF_SD3}
"""Single layers, (single file, diffusers)."""

_LAST = re.compile(r"joint_blocks\.\d+\.context_block\.adaLN_modulation\.1")
"""In the last block of SD3 it has two parts instead of six: a shift and a scale alone."""
_BLOCK = re.compile(r"(double_blocks|single_blocks|joint_blocks)\.(\d+)\.(.+)")


def parts_of(path: str, shape: Shape) -> Iterator[tuple[str, tuple[int, int] | None]]:
    """The layers in a weight, by diffusers path, and their rows; None where it is the whole."""
    if path in _OUTER:
        yield _OUTER[path], None
    block = _BLOCK.fullmatch(path)
    if block is None:
        return
    name, table = _BLOCKS[block[1]]
    layers = table.get(block[3], ())
    if len(layers) == 1:
        yield f"{name}.{block[2]}.{layers[0]}", None
        return
    for layer, rows in zip(layers, _ranges(len(layers), shape), strict=False):
        yield f"{name}.{block[2]}.{layer}", rows


def _ranges(layers: int, shape: Shape) -> list[tuple[int, int]]:
    """The rows of each layer; none where a matrix has not as many as such layers together."""
    width = shape[1] if len(shape) > 1 else 0  # queries, keys and values are as wide as the input
    bounds = (0, width, 2 * width, 3 * width, *shape[:1])[: layers + 1]
    whole = width > 0 and bounds[-1] == shape[0] and bounds[-2] < shape[0]
    return list(pairwise(bounds)) if whole else []


def has_halves_swapped(path: str, shape: Shape) -> bool:
    """Whether the halves of a single file's layer are the other way round in diffusers."""
    two_parts = len(shape) > 1 and shape[0] == 2 * shape[1]
    return two_parts and (path == "final_layer.adaLN_modulation.1" or bool(_LAST.fullmatch(path)))


def wholes_of(names: Collection[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Layers of a single file, and those of diffusers that they are, where all of these are there.

    `names` are those of a transformer's tensors.
    """
    for word, (name, table) in _BLOCKS.items():
        block = re.compile(rf"{name}\.(\d+)\.")
        for number in sorted({m[1] for path in names if (m := block.match(path))}):
            for inner, layers in table.items():
                paths = tuple(f"{name}.{number}.{layer}" for layer in layers)
                if all(f"{path}.weight" in names for path in paths):
                    yield f"{word}.{number}.{inner}", paths
    for inner, path in _OUTER.items():
        if f"{path}.weight" in names:
            yield inner, (path,)


_MOST_BLOCKS = 64


def layers_of_blocks(*, flux: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Layers of a single file, and the layers of diffusers that they are.

    `flux` tells the layers of Flux from those of SD3.
    """
    for word in ("double_blocks", "single_blocks") if flux else ("joint_blocks",):
        name, table = _BLOCKS[word]
        for number in range(_MOST_BLOCKS):
            for inner, layers in table.items():
                paths = tuple(f"{name}.{number}.{layer}" for layer in layers)
                yield f"{word}.{number}.{inner}", paths
    for path, layer in (_OUTER_OF_FLUX if flux else _OUTER_OF_SD3).items():
        yield path, (layer,)
