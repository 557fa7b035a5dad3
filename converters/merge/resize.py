"""A LoRA or LoCon with other ranks: each module's change truncated anew, without ever being built.

With the QR decompositions of up and of the transpose of down, the singular values of the change are
those of a small matrix of the old rank. A middle (Tucker form) is multiplied into down first, as in
KohakuBlueleaf/LyCORIS `lycoris/functional/locon.py`; the result is a plain LoRA. The same idea as
kohya-ss/sd-scripts `networks/resize_lora.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.dtypes import CODES, DType
from converters.errors import MergeProblem, UnsupportedFile
from converters.merge.lora_tensors import (
    ALPHA,
    DOWN,
    MID,
    UP,
    ModuleError,
    lora_tensors,
    matrix_of,
)
from converters.merge.low_rank import Size, Spectrum, energy_of, rank_of_energy, truncated
from converters.progress import SILENT, Progress
from converters.statedict import LazyTensor, StateDict

if TYPE_CHECKING:
    from converters.merge.low_rank import Matrix

_SUFFIXES = {UP: "up", DOWN: "down", MID: "mid", ALPHA: "alpha"}
_MOST_AXES = 5


@dataclass(frozen=True, slots=True)
class LoraModule:
    """The tensors of a module by role, and the rank it has."""

    name: str
    tensors: Mapping[str, LazyTensor]

    @property
    def rank(self) -> int:
        """The largest rank that its change can have."""
        return self.tensors["up"].shape[1]


@dataclass(frozen=True, slots=True)
class Resized:
    """The new adapter, and what the truncation cost each module."""

    state: StateDict
    modules: tuple[ModuleError, ...]


def lora_modules_of(state: StateDict) -> tuple[LoraModule, ...]:
    """The modules of a LoRA or LoCon in kohya naming. Reads no tensor data.

    Raises UnsupportedFile naming the first key that is of no such module, or the module whose
    tensors do not fit each other.
    """
    grouped: dict[str, dict[str, LazyTensor]] = {}
    for key, tensor in state.items():
        suffix = next((s for s in _SUFFIXES if key.endswith(s)), None)
        if suffix is None:
            raise UnsupportedFile(f"{key} is no part of a LoRA or LoCon in kohya naming")
        grouped.setdefault(key.removesuffix(suffix), {})[_SUFFIXES[suffix]] = tensor
    if not grouped:
        raise UnsupportedFile("holds no modules of a LoRA")
    modules = tuple(LoraModule(name, tensors) for name, tensors in grouped.items())
    for module in modules:
        if not _fits(module.tensors):
            shapes = ", ".join(f"{role} {list(t.shape)}" for role, t in module.tensors.items())
            raise UnsupportedFile(f"the tensors of {module.name} are no LoRA: {shapes}")
    return modules


def _fits(tensors: Mapping[str, LazyTensor]) -> bool:
    if not all(tensor.dtype.is_float and tensor.dtype not in CODES for tensor in tensors.values()):
        return False
    up, down, mid = (tensors.get(role) for role in ("up", "down", "mid"))
    alpha = tensors.get("alpha")
    if up is None or down is None or (alpha is not None and alpha.numel != 1):
        return False
    if not all(2 <= len(t.shape) <= _MOST_AXES and t.numel for t in (up, down)):
        return False
    flat = set(up.shape[2:]) <= {1}
    if mid is None:
        return flat and up.shape[1] == down.shape[0]
    inner = len(mid.shape) == 4 and mid.shape[:2] == (up.shape[1], down.shape[0])
    return flat and inner and set(down.shape[2:]) <= {1} and mid.numel > 0


def resize_lora(
    modules: tuple[LoraModule, ...], size: Size, dtype: DType | None, progress: Progress = SILENT
) -> Resized:
    """Compute the adapter with other ranks; it is held in memory. `dtype` None keeps up's type.

    No module gets a larger rank than it has. Raises MergeProblem naming a tensor with values that
    are not finite, Overflow, FileProblem.
    """
    tensors: dict[str, LazyTensor] = {}
    errors = []
    for module in modules:
        made, error = _resized(module, size, dtype or module.tensors["up"].dtype)
        tensors |= made
        errors.append(error)
        progress.advance(sum(tensor.nbytes for tensor in module.tensors.values()))
    return Resized(StateDict(tensors), tuple(errors))


def _resized(
    module: LoraModule, size: Size, dtype: DType
) -> tuple[dict[str, LazyTensor], ModuleError]:
    import numpy as np

    up, down, shape = _factors(module)
    left, inner_left = np.linalg.qr(up)
    right, inner_right = np.linalg.qr(down.T)
    core = inner_left @ inner_right.T
    kept = _kept(core, size, module.rank)
    new_up, new_down = Spectrum(left @ kept.left, kept.values, kept.right @ right.T).factors()
    shapes = (1,) * len(module.tensors["up"].shape[2:]), shape
    made = lora_tensors(module.name, new_up, new_down, shapes, dtype)
    stored = [matrix_of(made[f"{module.name}{suffix}"]) for suffix in (UP, DOWN)]
    missing = _distance(up, down, *stored)
    return made, ModuleError(module.name, new_up.shape[1], missing, math.sqrt(energy_of(core)))


def _distance(up: Matrix, down: Matrix, new_up: Matrix, new_down: Matrix) -> float:
    """The norm of up · down - new_up · new_down, of which neither is built.

    It is that of X · Y with X = (up, -new_up) and Y = (down, new_down), one below the other, whose
    square is the sum of the elements of (Xᵀ X) ∘ (Y Yᵀ).
    """
    import numpy as np

    left = np.hstack([up, -new_up]).astype(np.float64)
    right = np.vstack([down, new_down]).astype(np.float64)
    return math.sqrt(max(0.0, float(((left.T @ left) * (right @ right.T)).sum())))


def _kept(core: Matrix, size: Size, old_rank: int) -> Spectrum:
    """The part of the change that stays: at least rank 1, at most the old rank."""
    spectrum = truncated(core, Size(rank=min(core.shape)))
    rank = size.rank
    if size.energy is not None:
        rank = rank_of_energy(spectrum.values, size.energy * energy_of(spectrum.values))
    return spectrum.first(min(rank or old_rank, old_rank))


def _factors(module: LoraModule) -> tuple[Matrix, Matrix, tuple[int, ...]]:
    """Up (out, r) with the scale in it, down (r, in · kernel), and the shape (in, *kernel)."""
    up = _matrix(module, "up")
    down = _matrix(module, "down")
    shape = module.tensors["down"].shape[1:]
    if "mid" in module.tensors:
        mid = module.tensors["mid"]
        spread = _matrix(module, "mid").reshape(mid.shape).transpose(0, 2, 3, 1) @ down
        down = spread.transpose(0, 3, 1, 2).reshape(up.shape[1], -1)
        shape = (shape[0], *mid.shape[2:])
    scale = 1.0  # a missing alpha means alpha = rank
    if "alpha" in module.tensors:
        scale = float(_matrix(module, "alpha").item()) / module.tensors["down"].shape[0]
    return up * scale, down, shape


def _matrix(module: LoraModule, role: str) -> Matrix:
    """A tensor as `matrix_of`. Raises MergeProblem."""
    import numpy as np

    matrix = matrix_of(module.tensors[role])
    if not np.isfinite(matrix).all():
        raise MergeProblem(f"{module.name} holds NaN or infinite values ({role})")
    return matrix
