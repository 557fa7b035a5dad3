"""SLERP: along the arc from A to B, each tensor seen as one vector; the lengths go straight.

|A|^ is A / ‖A‖, ω the angle between A and B, and n = (1 - α) ‖A‖ + α ‖B‖:

    n · (sin((1 - α) ω) · |A|^ + sin(α ω) · |B|^) / sin ω

Source: Shoemake, Animating rotation with quaternion curves (1985); with the length interpolated as
in ljleb/sd-mecha `merge_methods/linear.py`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from converters.merge.checkpoints.method import A, B, Method, Models, Numbers
from converters.norms import inner, length

if TYPE_CHECKING:
    from converters.compute import Tensor

_FLAT = 1e-3
"""Sine of an angle below which arc and line differ less than float32 can tell."""


def slerp(models: Models, numbers: Numbers) -> Tensor:
    """The point of the arc; that of the line where A and B point the same or opposite ways."""
    a, b, alpha = models[A], models[B], numbers.alpha
    length_a, length_b = length(a), length(b)
    if not length_a or not length_b:
        return a.lerp(b, alpha)
    cosine = inner(a, b) / (length_a * length_b)
    omega = math.acos(max(-1.0, min(1.0, cosine)))
    if math.sin(omega) < _FLAT or not math.isfinite(cosine):
        return a.lerp(b, alpha)
    scale = ((1 - alpha) * length_a + alpha * length_b) / math.sin(omega)
    result = a * (scale * math.sin((1 - alpha) * omega) / length_a)
    return result.add_(b, alpha=scale * math.sin(alpha * omega) / length_b)


def _picks(numbers: Numbers) -> int | None:
    return {0.0: A, 1.0: B}.get(numbers.alpha)


SLERP = Method("slerp", slerp, picks=_picks, elementwise=False)
