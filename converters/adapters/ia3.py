"""(IA)³: every row, or every column, of a weight is multiplied by a learned number.

LyCORIS stores `weight` and `on_input`: W' = W · (1 + m · w), along the inputs if `on_input`. PEFT
stores the factor itself, `ia3_l`: (out, 1) for outputs, (1, in) for inputs; in convolutions
(1, n, 1, 1) for either, which its configuration tells apart; a factor of the outputs scales the
bias too. Where nothing tells the axis, the length decides; equal lengths mean outputs. Source:
KohakuBlueleaf/LyCORIS `lycoris/modules/ia3.py`, huggingface/peft `tuners/ia3/layer.py`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from converters.adapters.module import Family, Module, Shape, numbers

if TYPE_CHECKING:
    from converters.compute import Tensor


def _lycoris_shape(module: Module) -> Shape:
    if "on_input" in module.tensors and module.tensors["on_input"].numel != 1:
        raise module.misfit()
    return _length(module, "weight")


def _peft_shape(module: Module) -> Shape:
    return _length(module, "ia3_l")


def _length(module: Module, role: str) -> Shape:
    shape = module.shape(role)
    if not shape or sum(size != 1 for size in shape) > 1:
        raise module.misfit()
    return shape


def _covers(factors: Shape, weight: Shape) -> bool:
    return len(weight) >= 2 and math.prod(factors) in weight[:2]


def _apply_lycoris(module: Module, weight: Tensor, strength: float) -> None:
    factors = numbers(module, "weight").flatten()
    on_input = factors.numel() != weight.shape[0]
    if "on_input" in module.tensors:
        on_input = bool(numbers(module, "on_input").item())
    _multiply(module, weight, factors * strength, axis=int(on_input))


def _apply_peft(module: Module, weight: Tensor, strength: float) -> None:
    factors = numbers(module, "ia3_l")
    changes = (factors.flatten() - 1) * strength
    axis = 0 if _of_outputs(module, factors, weight.shape[0]) else 1
    _multiply(module, weight, changes, axis)


def _apply_peft_bias(module: Module, bias: Tensor, strength: float) -> None:
    factors = numbers(module, "ia3_l")
    if _of_outputs(module, factors, bias.shape[0]):
        bias.mul_(1 + (factors.flatten() - 1) * strength)


def _of_outputs(module: Module, factors: Tensor, outputs: int) -> bool:
    if factors.dim() == 2 and factors.numel() > 1:
        return factors.shape[1] == 1
    if module.stated.of_inputs is not None:
        return not module.stated.of_inputs
    return factors.numel() == outputs


def _multiply(module: Module, weight: Tensor, changes: Tensor, axis: int) -> None:
    if changes.numel() != weight.shape[axis]:
        raise module.misfit()
    shape = [1] * weight.dim()
    shape[axis] = -1
    weight.mul_(1 + changes.reshape(shape))


IA3 = Family(
    "ia3",
    frozenset({"weight"}),
    frozenset({"on_input"}),
    _lycoris_shape,
    _apply_lycoris,
    covers=_covers,
)
IA3_PEFT = Family(
    "ia3",
    frozenset({"ia3_l"}),
    frozenset(),
    _peft_shape,
    _apply_peft,
    covers=_covers,
    bias=_apply_peft_bias,
)
