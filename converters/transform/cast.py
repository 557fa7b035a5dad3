"""Change of precision, tensor by tensor, when the writer asks for it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from converters.dtypes import DType
from converters.errors import AssetmgrError
from converters.statedict import LazyTensor, StateDict

if TYPE_CHECKING:
    from converters.compute import Tensor


def cast(state: StateDict, dtype: DType) -> StateDict:
    """All real floating-point tensors in another element type.

    Tensors that already have it stay stored bytes; integers, booleans and `position_ids` (indices,
    sometimes stored as floats by accident) are never touched. Reading a tensor with a finite value
    that the new type cannot hold raises AssetmgrError: an infinity in the file would render black.
    """
    return state.map(lambda name, tensor: _cast(name, tensor, dtype))


def _cast(name: str, tensor: LazyTensor, dtype: DType) -> LazyTensor:
    if tensor.dtype is dtype or not tensor.dtype.is_float or name.endswith("position_ids"):
        return tensor
    from converters.compute import lazy

    compute = functools.partial(_converted, name, tensor, dtype)
    return lazy(dtype, tensor.shape, compute, tensor.origin, inputs=[tensor])


def _converted(name: str, tensor: LazyTensor, dtype: DType) -> Tensor:
    from converters.compute import torch_dtype, value

    original = value(tensor)
    converted = original.to(torch_dtype(dtype))
    lost = int((converted.isinf() & original.isfinite()).sum())
    if lost:
        raise AssetmgrError(
            f"{name}: {lost} values are too large for {dtype.label}",
            path=tensor.origin,
            hint="bf16 and fp32 hold every value of these files",
        )
    return converted
