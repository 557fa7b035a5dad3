"""Perpendicular: what B learned since C, less what A learned in the same direction, added to A.

With a = A - C and b = B - C, each tensor seen as one vector: A + α · (b - a · (a·b) / (a·a)).
Source: ljleb/sd-mecha `merge_methods/linear.py` (perpendicular_component) and `wrappers.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.merge.checkpoints.method import A, B, C, Method, Models, Numbers
from converters.norms import inner

if TYPE_CHECKING:
    from converters.compute import Tensor


def perpendicular(models: Models, numbers: Numbers) -> Tensor:
    """A with the part of B's difference that is perpendicular to its own.

    Where A has learned nothing, every direction is perpendicular.
    """
    ours, theirs = models[A] - models[C], models[B] - models[C]
    square = inner(ours, ours)
    along = inner(ours, theirs) / square if square else 0.0
    return theirs.sub_(ours, alpha=along).mul_(numbers.alpha).add_(models[A])


PERPENDICULAR = Method(
    "perpendicular", perpendicular, least=3, most=3, alike=(B, C), elementwise=False
)
