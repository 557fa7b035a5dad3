"""Add difference: A + α · (B - C), what was trained into B since C, added to A.

Source: AUTOMATIC1111/stable-diffusion-webui `modules/extras.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.merge.checkpoints.method import A, B, C, Method, Models, Numbers

if TYPE_CHECKING:
    from converters.compute import Tensor


def add_difference(models: Models, numbers: Numbers) -> Tensor:
    """A with the difference of B and C."""
    return models[B].sub_(models[C]).mul_(numbers.alpha).add_(models[A])


ADD_DIFFERENCE = Method("add-difference", add_difference, least=3, most=3, alike=(B, C))
