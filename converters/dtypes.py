"""Element types of stored tensors, named as in the safetensors format.

Source: huggingface/safetensors `safetensors/src/tensor.rs` (enum `Dtype`). The order of the members
is the format's rank: a writer stores tensors of higher rank first.
"""

from __future__ import annotations

import math
from enum import Enum


class DType(Enum):
    """An element type: `value` is (name, bits); declaration order is the safetensors rank."""

    BOOL = ("BOOL", 8)
    F4 = ("F4", 4)
    F6_E2M3 = ("F6_E2M3", 6)
    F6_E3M2 = ("F6_E3M2", 6)
    U8 = ("U8", 8)
    I8 = ("I8", 8)
    F8_E5M2 = ("F8_E5M2", 8)
    F8_E4M3 = ("F8_E4M3", 8)
    F8_E8M0 = ("F8_E8M0", 8)
    F8_E4M3FNUZ = ("F8_E4M3FNUZ", 8)
    F8_E5M2FNUZ = ("F8_E5M2FNUZ", 8)
    I16 = ("I16", 16)
    U16 = ("U16", 16)
    F16 = ("F16", 16)
    BF16 = ("BF16", 16)
    I32 = ("I32", 32)
    U32 = ("U32", 32)
    F32 = ("F32", 32)
    C64 = ("C64", 64)
    F64 = ("F64", 64)
    I64 = ("I64", 64)
    U64 = ("U64", 64)

    def __init__(self, label: str, bits: int) -> None:
        # Reading `value` costs what counts in headers of thousands of tensors.
        self._label, self._bits = label, bits
        self._is_float = label[0] in "FB" and label != "BOOL"

    __hash__ = object.__hash__  # Enum's own is interpreted, and blocks of merges ask tables for it

    @property
    def label(self) -> str:
        """The name in a safetensors header, e.g. `F16`."""
        return self._label

    @property
    def bits(self) -> int:
        """Size of one element in bits."""
        return self._bits

    @property
    def is_float(self) -> bool:
        """Real floating point: what a change of precision applies to."""
        return self._is_float

    @property
    def largest(self) -> float:
        """The largest finite value of a real floating-point type of 8 bits or more."""
        return _LARGEST[self]

    @property
    def overflow(self) -> float:
        """The smallest number that rounding to nearest even makes larger than `largest`."""
        exponent, mantissa = _RANGE[self]
        return self.largest + math.ldexp(0.5, exponent - mantissa)

    @property
    def rank(self) -> int:
        """Position in the format's order; higher ranks are written first."""
        return _RANK[self]

    def nbytes(self, numel: int) -> int:
        """Bytes of `numel` elements. Raises ValueError when they do not fill whole bytes."""
        bits = numel * self.bits
        if bits % 8:
            raise ValueError(f"{numel} elements of {self.label} do not end at a byte boundary")
        return bits // 8


_RANGE = {
    DType.F8_E5M2: (15, 2),
    DType.F8_E4M3: (8, 2),
    DType.F8_E4M3FNUZ: (7, 3),
    DType.F8_E5M2FNUZ: (15, 2),
    DType.F16: (15, 10),
    DType.BF16: (127, 7),
    DType.F32: (127, 23),
    DType.F64: (1023, 52),
}
"""Exponent of the largest value and bits after its leading one; e4m3's last pattern is NaN."""
_LARGEST = {
    dtype: math.ldexp(2.0 - math.ldexp(1.0, -mantissa), exponent)
    for dtype, (exponent, mantissa) in _RANGE.items()
}
_RANK = {dtype: rank for rank, dtype in enumerate(DType)}
BY_LABEL = {dtype.label: dtype for dtype in DType}
"""Header name -> element type."""
CODES = frozenset({DType.F4, DType.F6_E2M3, DType.F6_E3M2, DType.F8_E8M0})
"""Types that are only used with scales beside them, or are scales: no numbers to compute with."""
