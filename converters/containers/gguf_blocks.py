"""The element types of GGUF, and the values of quantised blocks.

A quantised tensor is a run of blocks of 32 or 256 elements, each with its own scales. Values are
computed in float32 in the order of ggml's reference code, so that they are the same to the last
bit. Source: ggml-org/llama.cpp `ggml/src/ggml-common.h` (the structs `block_*`) and
`ggml/src/ggml-quants.c` (`dequantize_row_*`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.dtypes import DType
from converters.statedict import Buffer, Extent

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    Bytes = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

CHUNK_BYTES = 1 << 20
"""Bytes of blocks whose values are computed at a time: bounds the arrays in between."""


@dataclass(frozen=True, slots=True)
class BlockType:
    """An element type: `elements` in blocks of `nbytes`; `dtype` is None for quantised ones."""

    name: str
    elements: int
    nbytes: int
    dtype: DType | None = None


TYPES: dict[int, BlockType] = {
    0: BlockType("F32", 1, 4, DType.F32),
    1: BlockType("F16", 1, 2, DType.F16),
    2: BlockType("Q4_0", 32, 18),
    3: BlockType("Q4_1", 32, 20),
    6: BlockType("Q5_0", 32, 22),
    7: BlockType("Q5_1", 32, 24),
    8: BlockType("Q8_0", 32, 34),
    9: BlockType("Q8_1", 32, 36),
    10: BlockType("Q2_K", 256, 84),
    11: BlockType("Q3_K", 256, 110),
    12: BlockType("Q4_K", 256, 144),
    13: BlockType("Q5_K", 256, 176),
    14: BlockType("Q6_K", 256, 210),
    15: BlockType("Q8_K", 256, 292),
    16: BlockType("IQ2_XXS", 256, 66),
    17: BlockType("IQ2_XS", 256, 74),
    18: BlockType("IQ3_XXS", 256, 98),
    19: BlockType("IQ1_S", 256, 50),
    20: BlockType("IQ4_NL", 32, 18),
    21: BlockType("IQ3_S", 256, 110),
    22: BlockType("IQ2_S", 256, 82),
    23: BlockType("IQ4_XS", 256, 136),
    24: BlockType("I8", 1, 1, DType.I8),
    25: BlockType("I16", 1, 2, DType.I16),
    26: BlockType("I32", 1, 4, DType.I32),
    27: BlockType("I64", 1, 8, DType.I64),
    28: BlockType("F64", 1, 8, DType.F64),
    29: BlockType("IQ1_M", 256, 56),
    30: BlockType("BF16", 1, 2, DType.BF16),
    34: BlockType("TQ1_0", 256, 54),
    35: BlockType("TQ2_0", 256, 66),
    39: BlockType("MXFP4", 32, 17),
    40: BlockType("NVFP4", 64, 36),
    41: BlockType("Q1_0", 128, 18),
}
"""Number in the file -> type; numbers that are not here are retired or unknown."""
NUMBERS = {kind.name: number for number, kind in TYPES.items()}
"""Name of a type -> its number in the file."""


def values(extent: Extent, kind: BlockType) -> Buffer:
    """The values of the blocks in the extent as float32, in the order of the file."""
    import numpy as np

    formula = FORMULAS[kind.name]
    blocks = extent.nbytes // kind.nbytes
    found = np.empty((blocks, kind.elements), np.float32)
    step = max(1, CHUNK_BYTES // kind.nbytes)
    for first in range(0, blocks, step):
        count = min(step, blocks - first)
        raw = extent.source.pread(extent.offset + first * kind.nbytes, count * kind.nbytes)
        with np.errstate(all="ignore"):  # scales of broken files may be infinite or NaN
            found[first : first + count] = formula(
                np.frombuffer(raw, np.uint8).reshape(count, kind.nbytes)
            )
    return found.reshape(-1).view(np.uint8).data


def _scale(blocks: Bytes, at: int) -> Floats:
    """The float16 at a byte of every block, (n, 1)."""
    import numpy as np

    halves: np.ndarray[tuple[int, ...], np.dtype[np.float16]]
    halves = np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2")
    return halves.astype(np.float32)


def _fields(packed: Bytes, bits: int, group: int) -> Bytes:
    """Small numbers of `bits` bits, (n, m) -> (n, m * 8 / bits).

    Each group of `group` bytes holds first the lowest bits of all its bytes, then the next ones.
    """
    import numpy as np

    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    grouped = packed.reshape(len(packed), -1, 1, group)
    fields = grouped >> shifts & np.uint8((1 << bits) - 1)
    return fields.reshape(len(packed), -1)


def _minus(numbers: Bytes, zero: int) -> Floats:
    import numpy as np

    return numbers.astype(np.float32) - np.float32(zero)


def _q4_0(blocks: Bytes) -> Floats:
    return _scale(blocks, 0) * _minus(_fields(blocks[:, 2:18], 4, 16), 8)


def _q4_1(blocks: Bytes) -> Floats:
    return _scale(blocks, 0) * _fields(blocks[:, 4:20], 4, 16) + _scale(blocks, 2)


def _five_bits(low: Bytes, high: Bytes) -> Bytes:
    """Four bits as nibbles and the fifth in a bit field in the order of the elements."""
    import numpy as np

    fifth = np.unpackbits(high, axis=1, bitorder="little")
    return _fields(low, 4, 16) | fifth << np.uint8(4)


def _q5_0(blocks: Bytes) -> Floats:
    numbers = _five_bits(blocks[:, 6:22], blocks[:, 2:6])
    return _scale(blocks, 0) * _minus(numbers, 16)


def _q5_1(blocks: Bytes) -> Floats:
    numbers = _five_bits(blocks[:, 8:24], blocks[:, 4:8])
    return _scale(blocks, 0) * numbers + _scale(blocks, 2)


def _q8_0(blocks: Bytes) -> Floats:
    import numpy as np

    return _scale(blocks, 0) * blocks[:, 2:34].view(np.int8)


def _q2_k(blocks: Bytes) -> Floats:
    """16 groups of 16 elements; a byte per group holds its scale (low) and minimum (high)."""
    groups = blocks[:, :16]
    scales = _scale(blocks, 80) * (groups & 15)
    minima = _scale(blocks, 82) * (groups >> 4)
    return _affine(scales, _fields(blocks[:, 16:80], 2, 32), minima)


def _q3_k(blocks: Bytes) -> Floats:
    """16 groups of 16; a set bit of the mask stands for a third bit that is subtracted when clear.

    The scales have six bits: the low four of the 16 groups as nibbles in 8 bytes, the high two of
    groups i, i + 4, i + 8, i + 12 in byte 8 + i.
    """
    import numpy as np

    packed = blocks[:, 96:108]
    numbers = _fields(packed[:, :8], 4, 8) | _fields(packed[:, 8:], 2, 4) << np.uint8(4)
    scales = _scale(blocks, 108) * _minus(numbers, 32)
    third = _fields(blocks[:, :32], 1, 32) << np.uint8(2)
    return _grouped(scales, _minus(_fields(blocks[:, 32:96], 2, 32) | third, 4))


def _q4_k(blocks: Bytes) -> Floats:
    scales, minima = _six_bits(blocks)
    return _affine(scales, _fields(blocks[:, 16:144], 4, 32), minima)


def _q5_k(blocks: Bytes) -> Floats:
    import numpy as np

    scales, minima = _six_bits(blocks)
    fifth = _fields(blocks[:, 16:48], 1, 32)
    return _affine(scales, _fields(blocks[:, 48:176], 4, 32) | fifth << np.uint8(4), minima)


def _q6_k(blocks: Bytes) -> Floats:
    """16 groups of 16 with signed scales of eight bits; low four bits, then high two."""
    import numpy as np

    scales = _scale(blocks, 208) * blocks[:, 192:208].view(np.int8)
    numbers = _fields(blocks[:, :128], 4, 64) | _fields(blocks[:, 128:192], 2, 32) << np.uint8(4)
    return _grouped(scales, _minus(numbers, 32))


def _six_bits(blocks: Bytes) -> tuple[Floats, Floats]:
    """Scales and minima of the 8 groups of Q4_K and Q5_K, six bits each in 12 bytes.

    Bytes 0-3 and 4-7 hold those of groups 0-3 in their low bits, and in their two high bits the
    high ones of groups 4-7, whose low four bits are the nibbles of bytes 8-11.
    """
    import numpy as np

    first, second, nibbles = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = np.hstack([first & 63, nibbles & 15 | first >> 6 << 4])
    minima = np.hstack([second & 63, nibbles >> 4 | second >> 6 << 4])
    return _scale(blocks, 0) * scales, _scale(blocks, 2) * minima


def _affine(scales: Floats, numbers: Bytes, minima: Floats) -> Floats:
    import numpy as np

    width = numbers.shape[1] // scales.shape[1]
    return _grouped(scales, numbers) - np.repeat(minima, width, axis=1)


def _grouped(scales: Floats, numbers: Bytes | Floats) -> Floats:
    """Numbers times the scale of their group."""
    import numpy as np

    return np.repeat(scales, numbers.shape[1] // scales.shape[1], axis=1) * numbers


FORMULAS: dict[str, Callable[[Bytes], Floats]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
"""Type -> values of blocks (n, bytes of a block) as (n, elements of a block)."""
