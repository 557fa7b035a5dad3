"""Some rows of what a module does to a weight, or all of them in another order, as a module."""

from __future__ import annotations

from dataclasses import replace

from converters.adapters.dora import MAGNITUDES, SCALE, VECTOR
from converters.adapters.module import Module
from converters.errors import UnsupportedFile
from converters.statedict import LazyTensor, concat0

_OF_ROWS = ("up", "diff", SCALE, VECTOR)
"""Roles of tensors that have something for each row of the weight."""
_OF_ALL_ROWS = frozenset({"down", "alpha", "scale"})


def rows_of(module: Module, rows: tuple[int, int]) -> Module:
    """The part of a LoRA, with magnitudes or without, that changes some rows of its weight.

    Raises UnsupportedFile.
    """
    if not module.tensors.keys() <= {"up", *_OF_ALL_ROWS, *MAGNITUDES}:
        raise UnsupportedFile(
            f"module {module.name} is {module.family}, of one matrix that is several in diffusers"
        )
    tensors = dict(module.tensors)
    tensors["up"] = tensors["up"].slice0(*rows)
    for role in (SCALE, VECTOR):
        if role in tensors:
            if tensors[role].shape[:1] != module.shape("up")[:1]:
                raise UnsupportedFile(
                    f"the magnitudes of module {module.name} are of its inputs, over all rows"
                )
            tensors[role] = tensors[role].slice0(*rows)
    return replace(module, tensors=tensors)


def rows_swapped(module: Module) -> Module:
    """The module of a weight whose halves are the other way round. Raises UnsupportedFile."""
    if not module.tensors.keys() <= {*_OF_ROWS, *_OF_ALL_ROWS}:
        raise UnsupportedFile(
            f"module {module.name} is {module.family}, of rows in another order in diffusers"
        )
    swapped = {
        role: _halves_swapped(tensor)
        for role, tensor in module.tensors.items()
        if role in _OF_ROWS and tensor.shape[0] > 1
    }
    return replace(module, tensors={**module.tensors, **swapped})


def _halves_swapped(tensor: LazyTensor) -> LazyTensor:
    half = tensor.shape[0] // 2
    return concat0([tensor.slice0(half, 2 * half), tensor.slice0(0, half)])
