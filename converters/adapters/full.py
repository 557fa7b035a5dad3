"""Stored differences: of whole weights (`diff`), of norms (`w_norm`), of biases; and new values.

W' = W + m · diff; alpha has no meaning. `set_weight` (ComfyUI `comfy/lora.py`) holds the new weight
itself: W' = W + m · (value - W). Source: KohakuBlueleaf/LyCORIS `lycoris/modules/full.py`,
`norms.py`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from converters.adapters.module import Family, Module, Shape, adding, numbers

if TYPE_CHECKING:
    from converters.compute import Tensor


def _shape(role: str, module: Module) -> Shape:
    return module.shape(role)


def _difference(role: str, module: Module) -> Tensor:
    return numbers(module, role)


def _replace(module: Module, weight: Tensor, strength: float) -> None:
    weight.lerp_(numbers(module, "set_weight").reshape(weight.shape), strength)


def _stored(name: str, role: str, part: str) -> Family:
    return Family(
        name,
        frozenset({role}),
        frozenset(),
        partial(_shape, role),
        adding(partial(_difference, role)),
        adds=True,
        part=part,
    )


FULL = _stored("full", "diff", "weight")
FULL_BIAS = _stored("full", "diff_b", "bias")
NORM = _stored("norm", "w_norm", "weight")
NORM_BIAS = _stored("norm", "b_norm", "bias")
SET = Family(
    "full", frozenset({"set_weight"}), frozenset(), partial(_shape, "set_weight"), _replace
)
