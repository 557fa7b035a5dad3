"""Train difference: A + α · 1.8 · |B - A| / (|B - A| + |B - C|) · (B - C), element by element.

As if A had been trained on what made B of C: where A is there already, less is added. Source:
hako-mikan/sd-webui-supermerger `scripts/mergers/mergers.py` (trainDifference), with its factor 1.8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.merge.checkpoints.method import A, B, C, Method, Models, Numbers

if TYPE_CHECKING:
    from converters.compute import Tensor

_FACTOR = 1.8


def train_difference(models: Models, numbers: Numbers) -> Tensor:
    """A with the share of the difference of B and C that it lacks; 0 / 0 counts as 0."""
    learned = models[B] - models[C]
    distance = (models[B] - models[A]).abs_()
    share = distance / (distance + learned.abs())
    return models[A] + share.nan_to_num_(0.0).mul_(learned).mul_(_FACTOR * numbers.alpha)


TRAIN_DIFFERENCE = Method("train-difference", train_difference, least=3, most=3, alike=(B, C))
