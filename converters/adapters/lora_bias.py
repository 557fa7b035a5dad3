"""The bias that PEFT trains beside a LoRA (`lora_bias`): a difference of the layer's bias.

bias' = bias + m · s · (bias of B), with the scale s of the product. Source: huggingface/peft
`tuners/lora/layer.py` (`merge`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.adapters.full import FULL_BIAS
from converters.adapters.module import Module, scale
from converters.dtypes import DType
from converters.statedict import LazyTensor

if TYPE_CHECKING:
    from converters.compute import Tensor

LORA_BIAS = "bias of up"
"""The role of the tensor among those of its LoRA."""


def bias_of(lora: Module, key: str, bias: LazyTensor) -> Module:
    """The change of the bias of a layer whose weight a LoRA changes. Reads no tensor data."""
    from converters.compute import floats, lazy

    def scaled() -> Tensor:
        return floats(bias).mul_(scale(lora, lora.shape("down")[0]))

    read = [bias, *lora.tensors.values()]
    difference = lazy(DType.F32, bias.shape, scaled, bias.origin, inputs=read)
    (role,) = FULL_BIAS.required
    return Module(lora.name, FULL_BIAS.name, {role: difference}, (key,), FULL_BIAS.part)
