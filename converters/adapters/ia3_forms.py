"""(IA)³ from PEFT's form into LyCORIS', and back.

PEFT keeps the factor itself, LyCORIS what is added to one and which side is multiplied. A factor
of outputs scales the bias, too, in PEFT and not in LyCORIS: they are the same where there is none.
Sources: huggingface/peft `tuners/ia3/layer.py`, KohakuBlueleaf/LyCORIS `lycoris/modules/ia3.py`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from converters.adapters.module import Module, Shape
from converters.bytesource import MemoryBytes
from converters.dtypes import DType
from converters.errors import UnsupportedFile
from converters.statedict import Extent, LazyTensor

if TYPE_CHECKING:
    from converters.compute import Tensor

Tensors = dict[str, LazyTensor]
PEFT_ROLE = "ia3_l"
_WITHOUT_BIAS = ("to_q", "to_k", "to_v")
"""Layers of a UNet's attention, which have none."""


def ia3_of_lycoris(module: Module) -> Tensors:
    """The tensors of LyCORIS for a module of PEFT. Raises UnsupportedFile."""
    factors = module.tensors[PEFT_ROLE]
    of_inputs = module.stated.of_inputs
    if len(factors.shape) == 2 and factors.numel > 1:
        of_inputs = factors.shape[0] == 1
    if of_inputs is None:
        raise _misfit(module, "only PEFT's configuration tells its sides apart")
    if not of_inputs:
        _require_no_bias(module, module.name)
    flag = bytes([of_inputs])
    told = Extent(MemoryBytes(flag), 0, len(flag))
    shape = (factors.numel,) if len(factors.shape) == 2 else factors.shape
    return {
        "weight": _plus(factors, -1, shape),
        "on_input": LazyTensor(DType.BOOL, (), (told,), f"{module.name}.on_input"),
    }


def ia3_of_peft(module: Module, path: str) -> Tensors:
    """The tensors of PEFT for a module of LyCORIS, by its path. Raises UnsupportedFile."""
    weight = module.tensors["weight"]
    of_inputs = is_of_inputs(module)
    if not of_inputs:
        _require_no_bias(module, path)
    shape: Shape = (1, weight.numel) if of_inputs else (weight.numel, 1)
    if len(weight.shape) > 1:
        shape = (1, weight.numel, *[1] * (len(weight.shape) - 2))
    return {PEFT_ROLE: _plus(weight, 1, shape)}


def is_of_inputs(module: Module) -> bool:
    """Whether a module of LyCORIS multiplies the inputs of its layer."""
    from converters.compute import value

    return bool(value(module.tensors["on_input"]).item())


def _require_no_bias(module: Module, path: str) -> None:
    if not path.endswith(_WITHOUT_BIAS) or "_block" not in path:
        raise _misfit(module, "only PEFT would scale the bias of the layer, too")


def _misfit(module: Module, why: str) -> UnsupportedFile:
    return UnsupportedFile(f"module {module.name} is {module.family} without another form: {why}")


def _plus(tensor: LazyTensor, number: float, shape: Shape) -> LazyTensor:
    from converters.compute import lazy

    made = partial(_sum, tensor, number, shape)
    return lazy(DType.F32, shape, made, tensor.origin, inputs=[tensor])


def _sum(tensor: LazyTensor, number: float, shape: Shape) -> Tensor:
    from converters.compute import floats

    return floats(tensor).add_(number).reshape(shape)
