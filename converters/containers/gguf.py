"""GGUF as image models use it: plain tensors as they lie, quantised ones computed when read.

Sources: ggml-org/ggml `docs/gguf.md` (dimensions with the fastest first, alignment),
city96/ComfyUI-GGUF `tools/convert.py` and `loader.py` (`comfy.gguf.orig_shape.*`: the shape of a
tensor that was reshaped to be quantised).
"""

from __future__ import annotations

import functools
import json
import math
from collections import Counter

from converters.bytesource import ByteSource
from converters.containers.gguf_blocks import FORMULAS, TYPES, BlockType, values
from converters.containers.gguf_header import GgufHeader, TensorInfo, Value, read_header
from converters.containers.model import Container, Model
from converters.dtypes import DType
from converters.errors import CorruptFile, TruncatedFile, UnsupportedFile
from converters.pickles.verdict import SAFE_NO_CODE
from converters.statedict import Blocks, Buffer, Extent, LazyTensor, StateDict

ALIGNMENT = "general.alignment"
ORIGINAL_SHAPE = "comfy.gguf.orig_shape."
TYPES_KEY = "gguf.types"
"""Metadata key that we add: how many tensors of each stored type there are."""

_DEFAULT_ALIGNMENT = 32


def read_gguf(source: ByteSource) -> Model:
    """Open a GGUF file from its header alone.

    Quantised tensors are F32 and are computed when read; those of types without a formula here
    raise UnsupportedFile then. Raises TruncatedFile, CorruptFile, or UnsupportedFile for other
    versions and for types of unknown size.
    """
    header = read_header(source)
    alignment = _alignment(source, header)
    kinds = {info.name: _kind(source, info) for info in header.tensors}
    extents = {
        info.name: _extent(source, info, kinds[info.name], header.end, alignment)
        for info in header.tensors
    }
    _require_apart(source, extents)
    tensors = {
        info.name: _tensor(_shape(source, info, header), kinds[info.name], extents[info.name],
                           f"{source.name}: {info.name}")
        for info in header.tensors
    }  # fmt: skip
    counts = Counter(kind.name for kind in kinds.values())
    last = max((extent.offset + extent.nbytes for extent in extents.values()), default=header.end)
    return Model(
        path=source.name,
        nbytes=source.size,
        container=Container.GGUF,
        state_dict=StateDict(tensors, _metadata(header, counts)),
        safety=SAFE_NO_CODE,
        problems=tuple(_problems(counts, source.size - _aligned(last, alignment))),
    )


def _alignment(source: ByteSource, header: GgufHeader) -> int:
    value = header.values.get(ALIGNMENT, _DEFAULT_ALIGNMENT)
    if type(value) is not int or value < 1 or value & (value - 1):
        raise CorruptFile(f"its {ALIGNMENT} is {value!r}, not a power of 2", path=source.name)
    return value


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment


def _kind(source: ByteSource, info: TensorInfo) -> BlockType:
    kind = TYPES.get(info.kind)
    if kind is None:
        raise UnsupportedFile(
            f"its tensor {info.name!r} is of the unknown type {info.kind}", path=source.name
        )
    row = info.dimensions[0] if info.dimensions else 1
    if row % kind.elements:
        raise CorruptFile(
            f"its tensor {info.name!r} has rows of {row} elements, not whole blocks of {kind.name}",
            path=source.name,
        )
    return kind


def _extent(
    source: ByteSource, info: TensorInfo, kind: BlockType, header_end: int, alignment: int
) -> Extent:
    nbytes = math.prod(info.dimensions) // kind.elements * kind.nbytes
    begin = _aligned(header_end, alignment) + info.offset
    if info.offset % alignment:
        raise CorruptFile(
            f"its tensor {info.name!r} at byte {begin} is not aligned to {alignment}",
            path=source.name,
        )
    if begin + nbytes > source.size:
        raise TruncatedFile(
            f"ends at byte {source.size}, its tensor {info.name!r} needs {begin + nbytes}",
            path=source.name,
            hint="the download or copy is incomplete: fetch the file again",
        )
    return Extent(source, begin, nbytes)


def _require_apart(source: ByteSource, extents: dict[str, Extent]) -> None:
    position, before = 0, ""
    for name, extent in sorted(extents.items(), key=lambda pair: (pair[1].offset, pair[1].nbytes)):
        if extent.nbytes and extent.offset < position:
            raise CorruptFile(
                f"its tensor {name!r} at byte {extent.offset} overlaps {before!r}, "
                f"which ends at {position}",
                path=source.name,
            )
        position, before = max(position, extent.offset + extent.nbytes), name


def _shape(source: ByteSource, info: TensorInfo, header: GgufHeader) -> tuple[int, ...]:
    """The dimensions in torch's order, or the shape from before the quantisation."""
    original = header.values.get(ORIGINAL_SHAPE + info.name)
    if original is None:
        return info.dimensions[::-1]
    shape = tuple(original) if isinstance(original, list) else ()
    sizes = tuple(size for size in shape if type(size) is int and size >= 0)
    if sizes != shape or math.prod(sizes) != math.prod(info.dimensions):
        raise CorruptFile(
            f"its tensor {info.name!r} of shape {list(info.dimensions[::-1])} "
            f"cannot have had the shape {original}",
            path=source.name,
        )
    return sizes


def _tensor(shape: tuple[int, ...], kind: BlockType, extent: Extent, origin: str) -> LazyTensor:
    if kind.dtype is not None:
        return LazyTensor(kind.dtype, shape, (extent,) if extent.nbytes else (), origin)
    blocks = Blocks(kind.name, extent, functools.partial(_values, extent, kind, origin))
    return LazyTensor(DType.F32, shape, blocks, f"{origin} ({kind.name})", (extent.source,))


def _values(extent: Extent, kind: BlockType, origin: str) -> Buffer:
    if kind.name not in FORMULAS:
        raise UnsupportedFile(f"is quantised as {kind.name}, which is not read", path=origin)
    return values(extent, kind)


def _metadata(header: GgufHeader, counts: Counter[str]) -> dict[str, str]:
    """All values as texts; shapes that were applied and the types of tensors aside."""
    kept = {
        key: _as_text(value)
        for key, value in header.values.items()
        if not key.startswith(ORIGINAL_SHAPE)
    }
    return {**kept, TYPES_KEY: ", ".join(f"{count} {name}" for name, count in counts.items())}


def _as_text(value: Value) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _problems(counts: Counter[str], trailing: int) -> list[str]:
    unread = [name for name in counts if name not in FORMULAS and not _is_plain(name)]
    found = [f"{counts[name]} tensors of type {name} cannot be dequantised" for name in unread]
    return found + ([f"{trailing} bytes follow the last tensor"] if trailing > 0 else [])


def _is_plain(name: str) -> bool:
    return any(kind.name == name and kind.dtype is not None for kind in TYPES.values())
