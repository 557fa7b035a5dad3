"""Adapter modules out of torch tensors, applied alone to a weight."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from helpers.sd1 import stored

from converters.adapters import Module, family_of, load_adapter
from converters.adapters.dora import MAGNITUDES, decompose
from converters.compute import buffer
from converters.dtypes import DType
from converters.statedict import LazyTensor, StateDict

NAME = "lora_unet_down_blocks_0_resnets_0_conv1"
TYPES = {
    torch.float32: DType.F32,
    torch.int64: DType.I64,
    torch.float16: DType.F16,
    torch.bfloat16: DType.BF16,
}

Tensors = Mapping[str, torch.Tensor]


def lazy(tensor: torch.Tensor, name: str = "t") -> LazyTensor:
    """A stored tensor of the same type and values."""
    return stored(TYPES[tensor.dtype], tuple(tensor.shape), bytes(buffer(tensor)), name)


def adapter(tensors: Tensors, metadata: Mapping[str, str] | None = None) -> StateDict:
    """An adapter file of these tensors."""
    held = {key: lazy(tensor.detach(), key) for key, tensor in tensors.items()}
    return StateDict(held, metadata or {})


def modules(
    tensors: Tensors, name: str = NAME, metadata: Mapping[str, str] | None = None
) -> tuple[Module, ...]:
    """The modules that tensors, by what follows the module's name, make."""
    file = adapter({f"{name}.{suffix}": tensor for suffix, tensor in tensors.items()}, metadata)
    loaded = load_adapter(file)
    assert not loaded.unused
    return loaded.modules


def only(tensors: Tensors, name: str = NAME, metadata: Mapping[str, str] | None = None) -> Module:
    """The one module that these tensors make."""
    (module,) = modules(tensors, name, metadata)
    return module


def applied(
    tensors: Tensors,
    weight: torch.Tensor,
    strength: float = 1.0,
    *,
    name: str = NAME,
    metadata: Mapping[str, str] | None = None,
) -> torch.Tensor:
    """A weight with an adapter of one module, after checking that it says to fit."""
    module = only(tensors, name, metadata)
    family = family_of(module)
    assert family.covers(family.shape(module), tuple(weight.shape))
    changed = weight.detach().clone().float()
    if MAGNITUDES & module.tensors.keys():
        decompose(family, module, changed, strength)
    else:
        family.apply(module, changed, strength)
    return changed


def close(got: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    """The largest difference is small beside the largest value."""
    expected = expected.detach().float()
    assert got.shape == expected.shape
    scale = max(float(expected.abs().max()), math.ulp(1.0))
    assert float((got - expected).abs().max()) <= tolerance * scale
