"""Whether computed values are numbers, at the price of one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converters.compute import Tensor


def all_finite(tensor: Tensor, stored_like: Tensor | None = None) -> bool:
    """Whether no value is NaN or infinite, now or after rounding to another tensor's type.

    Looking at the two extremes is enough: NaN is one if there is any, and rounding keeps order.
    (An element-wise test takes twenty times as long.) Empty tensors are finite.
    """
    if not tensor.numel():
        return True
    dtype = tensor.dtype if stored_like is None else stored_like.dtype
    return all(bool(extreme.to(dtype).float().isfinite()) for extreme in tensor.aminmax())
