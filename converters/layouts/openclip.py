"""OpenCLIP text encoders (H of SD2, bigG of SDXL): single-file names <-> transformers' names.

OpenCLIP keeps queries, keys and values in one matrix and the text projection transposed. Source:
mlfoundations/open_clip `src/open_clip/transformer.py`, huggingface/diffusers
`loaders/single_file_utils.py`, kohya-ss/sd-scripts `library/model_util.py`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping

from converters.dtypes import DType
from converters.errors import CorruptFile
from converters.statedict import LazyTensor, StateDict, concat0

_PLAIN = (
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("attn.out_proj", "self_attn.out_proj"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
)
"""Modules of a block that are the same in both, (OpenCLIP, transformers)."""

_OUTER = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}
_FUSED = {"attn.in_proj_weight": "weight", "attn.in_proj_bias": "bias"}
_HEADS = ("q_proj", "k_proj", "v_proj")
RESBLOCKS = "transformer.resblocks."
_BLOCK = re.compile(rf"{re.escape(RESBLOCKS)}(\d{{1,6}})\.(.+)")
_LAYER = re.compile(r"text_model\.encoder\.layers\.(\d{1,6})\.(.+)")
PROJECTION = "text_projection"
LOGIT_SCALE = "logit_scale"
LN_100 = 4.6052
"""What training ends at, and what is written where transformers kept no logit scale."""
_FINAL_NORM = "text_model.final_layer_norm.weight"


def is_openclip(sd: Mapping[str, LazyTensor]) -> bool:
    """Whether the tensors of a text encoder carry OpenCLIP names."""
    return any(name.startswith(RESBLOCKS) for name in sd)


def block_count(sd: Mapping[str, LazyTensor]) -> int:
    """Number of transformer blocks of an encoder with OpenCLIP names."""
    return 1 + max((int(m[1]) for name in sd if (m := _BLOCK.fullmatch(name))), default=-1)


def openclip_to_transformers(sd: StateDict) -> StateDict:
    """An OpenCLIP text encoder (names without prefix) as transformers names it.

    The logit scale, which no image model uses, is left out. Raises CorruptFile for a fused matrix
    that is not three of the same size.
    """
    return StateDict(dict(_to_transformers(sd)), sd.metadata, sd.extras)


def _to_transformers(sd: StateDict) -> Iterator[tuple[str, LazyTensor]]:
    plain = dict(_PLAIN)
    for name, tensor in sd.items():
        if name in _OUTER:
            yield _OUTER[name], tensor
        elif name == PROJECTION:
            yield f"{PROJECTION}.weight", _transposed(tensor)
        elif match := _BLOCK.fullmatch(name):
            layer = f"text_model.encoder.layers.{match[1]}"
            if match[2] in _FUSED:
                for head, part in zip(_HEADS, _thirds(name, tensor), strict=True):
                    yield f"{layer}.self_attn.{head}.{_FUSED[match[2]]}", part
                continue
            module, _, kind = match[2].rpartition(".")
            yield f"{layer}.{plain.get(module, module)}.{kind}", tensor
        elif name != LOGIT_SCALE:
            yield name, tensor


def _thirds(name: str, fused: LazyTensor) -> list[LazyTensor]:
    if not fused.shape or fused.shape[0] % 3:
        raise CorruptFile(f"{name} of shape {list(fused.shape)} is not queries, keys and values")
    rows = fused.shape[0] // 3
    return [fused.slice0(number * rows, (number + 1) * rows) for number in range(3)]


def openclip_from_transformers(sd: StateDict, *, blocks: int | None = None) -> StateDict:
    """A text encoder named as by transformers under OpenCLIP names, without prefix.

    SD2 in diffusers lacks the last block and the projection, which its renders never use; `blocks`
    asks for so many, and the missing last ones are copies of the last there is. Raises CorruptFile
    for an attention without one of its matrices.
    """
    spelled = {_with_text_model(name): tensor for name, tensor in sd.items()}
    made = dict(_from_transformers(spelled))
    present = block_count(made)
    last = f"{RESBLOCKS}{present - 1}."
    for number in range(present, blocks or present):
        made |= {
            name.replace(last, f"{RESBLOCKS}{number}."): tensor
            for name, tensor in made.items()
            if name.startswith(last)
        }
    width = spelled.get(_FINAL_NORM)
    if width is None or len(width.shape) != 1:
        raise CorruptFile(f"the text encoder has no {_FINAL_NORM}")
    if PROJECTION not in made:
        made[PROJECTION] = _filled(1.0, (width.shape[0],) * 2, width.dtype)
    made[LOGIT_SCALE] = _filled(LN_100, (), DType.F32)
    return StateDict(made, sd.metadata, sd.extras)


def synthetic(sd: Mapping[str, LazyTensor], *, blocks: int) -> tuple[str, ...]:
    """What `openclip_from_transformers` would make up for this encoder, in words."""
    layers = 1 + max(
        (int(m[1]) for name in sd if (m := _LAYER.fullmatch(_with_text_model(name)))), default=-1
    )
    missing = [f"block {number}" for number in range(layers, blocks)]
    missing += [] if f"{PROJECTION}.weight" in sd else [PROJECTION]
    return tuple(missing)


def _from_transformers(sd: Mapping[str, LazyTensor]) -> Iterator[tuple[str, LazyTensor]]:
    outer = {right: left for left, right in _OUTER.items()}
    plain = {right: left for left, right in _PLAIN}
    for name, tensor in sd.items():
        if name in outer:
            yield outer[name], tensor
        elif name == f"{PROJECTION}.weight":
            yield PROJECTION, _transposed(tensor)
        elif match := _LAYER.fullmatch(name):
            block = f"{RESBLOCKS}{match[1]}"
            module, _, kind = match[2].rpartition(".")
            head = module.removeprefix("self_attn.")
            if head not in _HEADS:
                yield f"{block}.{plain.get(module, module)}.{kind}", tensor
            elif head == _HEADS[0]:
                yield f"{block}.attn.in_proj_{kind}", _fused(sd, match[1], kind)
        elif not name.endswith("position_ids"):
            yield name, tensor


def _fused(sd: Mapping[str, LazyTensor], layer: str, kind: str) -> LazyTensor:
    names = [f"text_model.encoder.layers.{layer}.self_attn.{head}.{kind}" for head in _HEADS]
    try:
        return concat0([sd[name] for name in names])
    except (KeyError, ValueError) as error:
        raise CorruptFile(f"the attention of text layer {layer} is incomplete: {error}") from error


def _with_text_model(name: str) -> str:
    """Transformers 5 writes a text model without this prefix, older versions with it."""
    bare = name.startswith(("embeddings.", "encoder.", "final_layer_norm."))
    return f"text_model.{name}" if bare else name


def _transposed(tensor: LazyTensor) -> LazyTensor:
    if len(tensor.shape) != 2:
        raise CorruptFile(f"{tensor.origin}: {PROJECTION} is no matrix")
    rows, columns = tensor.shape

    def compute() -> bytes:
        import numpy as np  # moving bytes needs no arithmetic, and so no torch

        matrix = np.frombuffer(tensor.read(), f"V{tensor.dtype.bits // 8}").reshape(rows, columns)
        return matrix.T.tobytes()

    return LazyTensor(tensor.dtype, (columns, rows), compute, tensor.origin, tensor.sources)


_PACK: Mapping[DType, Callable[[float], bytes]] = {
    DType.F16: lambda number: struct.pack("<e", number),
    DType.F32: lambda number: struct.pack("<f", number),
    DType.BF16: lambda number: struct.pack("<f", number)[2:],
}


def _filled(number: float, shape: tuple[int, ...], dtype: DType) -> LazyTensor:
    kind = dtype if dtype in _PACK else DType.F32
    count = 1
    for size in shape:
        count *= size
    return LazyTensor(kind, shape, lambda: _PACK[kind](number) * count, "made up")
