"""DoRA: the direction of a changed weight, with a stored magnitude per row or per column.

V = W + ΔW at full strength, N its norms over all axes but that of the magnitudes g; the weight
becomes g · V / (N + ε). The shape of g tells the axis: (out, 1, ...) or one axis of length out is
that of the outputs, (1, in, ...) that of the inputs. The strength blends: W + m · (W' - W), so that
0 changes nothing. Source: KohakuBlueleaf/LyCORIS `lycoris/modules/locon.py` and ComfyUI
`comfy/weight_adapter/base.py` (the blend); huggingface/peft `tuners/lora/dora.py` (the magnitude as
a vector).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from converters.adapters.module import Family, Module, Shape, numbers

if TYPE_CHECKING:
    from converters.compute import Tensor

SCALE, VECTOR = "dora_scale", "magnitude"
MAGNITUDES = frozenset({SCALE, VECTOR})
"""Roles of magnitudes: those of LyCORIS tell their axis, the vectors of PEFT are of the outputs."""

_EPSILON = 2.0**-23
"""The ε of float32."""


def magnitudes_fit(module: Module, weight: Shape) -> bool:
    """Whether the magnitudes of a module belong to the rows or the columns of a weight."""
    return _axis(module, weight) is not None


def _axis(module: Module, weight: Shape) -> int | None:
    role = _role(module)
    shape = module.shape(role)
    if len(weight) < 2 or sum(size > 1 for size in shape) > 1:
        return None
    if role == VECTOR or len(shape) == 1:
        return 0 if math.prod(shape) == weight[0] else None
    if len(shape) < 2:
        return None
    if shape[0] == weight[0] and math.prod(shape[1:]) == 1:
        return 0
    return 1 if shape[1] == weight[1] and shape[0] == 1 else None


def _role(module: Module) -> str:
    return SCALE if SCALE in module.tensors else VECTOR


def decompose(family: Family, module: Module, weight: Tensor, strength: float) -> None:
    """Apply a module with a DoRA scale to a weight in place.

    Raises MergeProblem when a tensor is not finite.
    """
    changed = weight.clone()
    family.apply(module, changed, 1.0)
    magnitude = numbers(module, _role(module))
    axis = _axis(module, tuple(weight.shape))
    others = [n for n in range(weight.dim()) if n != axis]
    norms = changed.pow(2).sum(others, keepdim=True).sqrt_().add_(_EPSILON)
    weight.lerp_(changed.mul_(magnitude.reshape(norms.shape) / norms), strength)
