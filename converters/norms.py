"""Lengths of vectors, however long they are.

torch adds up the squares of a norm in a few running sums of float32: of the 63 million values that
SDXL's table of tokens has, half a percent of the length is lost. How many sums it has depends on
the processor. Runs that stay in the cache are multiplied in float64 here, where the product of two
float32 is exact, and their sums added up exactly.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converters.compute import Tensor

_RUN = 1 << 13


def inner(a: Tensor, b: Tensor) -> float:
    """Σ a · b of all elements of two tensors of one shape, in float64 run by run."""
    x, y = a.reshape(-1), b.reshape(-1)
    starts = range(0, x.numel(), _RUN)
    products = [float(x[at : at + _RUN].double().dot(y[at : at + _RUN].double())) for at in starts]
    return math.fsum(products) if all(map(math.isfinite, products)) else sum(products)


def length(tensor: Tensor) -> float:
    """The Frobenius norm of a tensor."""
    return math.sqrt(inner(tensor, tensor))


def column_lengths(tensor: Tensor) -> Tensor:
    """The norms along the first axis, one for each place of the others."""
    squares: Tensor = tensor.square()
    return squares.sum(dim=0).sqrt_()
