"""TIES: the differences of all models to A, trimmed, agreed on their sign, averaged, added to A.

For δ_t = model_t - A, in each tensor: only the `density` largest of the |δ_t| are kept; the sign of
their sum is elected, element by element; those of that sign are averaged, the others left out; and
α times the mean is added to A. Source: Yadav et al., TIES-Merging (arXiv:2306.01708), section 3.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from converters.merge.checkpoints.method import A, Method, Models, Numbers

if TYPE_CHECKING:
    from converters.compute import Tensor


def ties(models: Models, numbers: Numbers) -> Tensor:
    """A with the agreed part of the differences."""
    deltas = [_trimmed(model - models[A], numbers.density) for model in models[1:]]
    elected = sum(deltas[1:], deltas[0]).sign()
    total, count = deltas[0].new_zeros(()), deltas[0].new_zeros(())
    for delta in deltas:
        agrees = (delta.sign() == elected) & (elected != 0)
        total = total + delta * agrees
        count = count + agrees
    return models[A] + total.div_(count.clamp_(min=1)).mul_(numbers.alpha)


def _trimmed(delta: Tensor, density: float) -> Tensor:
    """The difference with all but the `density` largest elements set to zero."""
    kept = math.ceil(density * delta.numel())
    if kept >= delta.numel():
        return delta
    sizes = delta.abs()
    least, _ = sizes.flatten().kthvalue(delta.numel() - kept + 1)
    return delta.mul_(sizes >= least)


TIES = Method("ties", ties, most=None, options=frozenset({"alpha", "density"}), elementwise=False)
