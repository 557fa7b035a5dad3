"""The tensors of a LoRA module, made from its factors, and what truncating them cost."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.bytesource import MemoryBytes
from converters.dtypes import DType
from converters.statedict import Extent, LazyTensor, StateDict
from converters.transform.cast import cast

if TYPE_CHECKING:
    from converters.merge.low_rank import Matrix

Shape = tuple[int, ...]

UP, DOWN, ALPHA = ".lora_up.weight", ".lora_down.weight", ".alpha"
"""Suffixes of a module's tensors in kohya naming."""


@dataclass(frozen=True, slots=True)
class ModuleError:
    """A module's rank and what truncating cost it: norms of what is missing and of the whole.

    A change of a bias or of a norm has no rank.
    """

    name: str
    rank: int | None
    missing: float
    whole: float

    @property
    def error(self) -> float:
        """What is missing, as a share of the whole."""
        return self.missing / self.whole if self.whole else 0.0


def total_error(modules: Sequence[ModuleError]) -> float:
    """What is missing of all modules together, as a share of their norm."""
    whole = math.hypot(*(module.whole for module in modules))
    return math.hypot(*(module.missing for module in modules)) / whole if whole else 0.0


def lora_tensors(
    name: str, up: Matrix, down: Matrix, shapes: tuple[Shape, Shape], dtype: DType
) -> dict[str, LazyTensor]:
    """The tensors of a module for the change up (out, r) · down (r, in · kernel), rounded now.

    `shapes` are those of up behind (out, r) and of down behind (r). alpha is the rank, so that the
    scale is 1. Raises Overflow for a value that does not fit `dtype`.
    """
    rank = up.shape[1]
    return {
        f"{name}{UP}": rounded(up, (*up.shape, *shapes[0]), dtype),
        f"{name}{DOWN}": rounded(down, (rank, *shapes[1]), dtype),
        # Always float32: bfloat16 cannot hold every rank.
        f"{name}{ALPHA}": _held_in_memory(DType.F32, (), struct.pack("<f", rank)),
    }


def matrix_of(tensor: LazyTensor) -> Matrix:
    """A tensor in float32 as a matrix: all axes but the first made one."""
    from converters.compute import value

    rows = tensor.shape[0] if tensor.shape else 1
    matrix: Matrix = value(tensor).float().reshape(rows, -1).numpy()
    return matrix


def rounded(matrix: Matrix, shape: Shape, dtype: DType) -> LazyTensor:
    """A tensor in memory, rounded now. Raises Overflow for a value that does not fit `dtype`."""
    import numpy as np

    wide = _held_in_memory(DType.F32, shape, np.ascontiguousarray(matrix, np.float32).tobytes())
    narrow = cast(StateDict({"factor": wide}), dtype)["factor"]
    return _held_in_memory(dtype, shape, bytes(narrow.read()))


def _held_in_memory(dtype: DType, shape: Shape, data: bytes) -> LazyTensor:
    return LazyTensor(dtype, shape, (Extent(MemoryBytes(data), 0, len(data)),), "computed")
