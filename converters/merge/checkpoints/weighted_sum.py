"""Weighted sum: (1 - α) · A + α · B, or of three models (1 - α - β) · A + α · B + β · C.

Source: AUTOMATIC1111/stable-diffusion-webui `modules/extras.py` (weighted sum),
hako-mikan/sd-webui-supermerger `scripts/mergers/mergers.py` (triple sum).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.merge.checkpoints.method import A, B, C, Method, Models, Numbers

if TYPE_CHECKING:
    from converters.compute import Tensor


def weighted_sum(models: Models, numbers: Numbers) -> Tensor:
    """The sum of the models, each by its weight; the weights add up to one."""
    result = models[A].mul_(1 - numbers.alpha - numbers.beta)
    result.add_(models[B], alpha=numbers.alpha)
    return result.add_(models[C], alpha=numbers.beta) if len(models) > C else result


def _picks(numbers: Numbers) -> int | None:
    """The only model with a weight."""
    weights = (1 - numbers.alpha - numbers.beta, numbers.alpha, numbers.beta)
    return weights.index(1) if sorted(weights) == [0, 0, 1] else None


WEIGHTED_SUM = Method(
    "weighted-sum", weighted_sum, most=3, options=frozenset({"alpha", "beta"}), picks=_picks
)
