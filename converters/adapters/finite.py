"""Whether computed values are numbers that a type can hold, at the price of one pass."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from converters.dtypes import DType

if TYPE_CHECKING:
    from converters.compute import Tensor

_SAFE = 1e19
"""A sum of squares below the square of this has not overflowed float32."""


def all_finite(tensor: Tensor, dtype: DType | None = None) -> bool:
    """Whether no value is NaN or infinite, nor too large for a type that it is rounded to.

    Looking at the two extremes is enough: NaN is one if there is any, and rounding keeps order.
    (An element-wise test takes twenty times as long.) Empty tensors are finite. What torch makes of
    values that are too large is not asked: it saturates some types and not others.
    """
    if not tensor.numel() or _is_small(tensor, dtype):
        return True
    lowest, highest = (float(extreme) for extreme in tensor.aminmax())
    limit = math.inf if dtype is None else dtype.overflow
    return -limit < lowest and highest < limit  # False for NaN


def _is_small(tensor: Tensor, dtype: DType | None) -> bool:
    """Whether the sum of squares alone shows that every value is a number that the type can hold.

    It is that of usual weights, and made at four times the speed of finding their extremes.
    """
    if tensor.element_size() != 4 or not tensor.is_contiguous():
        return False
    flat = tensor.view(-1)
    limit = _SAFE if dtype is None else min(dtype.largest, _SAFE)
    return float(flat.dot(flat)) < limit**2  # False for NaN


def reach(tensor: Tensor) -> str:
    """How large the values of a tensor are, in words; nothing where one is no number."""
    size = float(tensor.abs().max())
    return f", with a value of {size:.4g}" if math.isfinite(size) else ""


def clamp(tensor: Tensor, dtype: DType) -> int | None:
    """Make values that are too large for a type its largest, in place; how many there were.

    None, and nothing is changed, where a value is NaN or infinite before.
    """
    if not all_finite(tensor):
        return None
    lost = int((tensor.abs() >= dtype.overflow).sum())
    tensor.clamp_(-dtype.largest, dtype.largest)
    return lost
