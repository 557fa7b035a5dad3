"""LoRA and LoCon: a weight changes by (alpha / rank) · up · down, with an optional middle.

Linear, 1x1 and k x k convolutions follow one formula once the weight is flattened to
(out, in · kernel): the change of a convolution is up (out, r) times down (r, in · kh · kw), as in
kohya-ss/sd-scripts `networks/lora.py`. With a middle (the Tucker/CP form of KohakuBlueleaf/LyCORIS
`lycoris/functional/locon.py`) down becomes Σ_j mid[i, j, k, l] · down[j, q], and up stays.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from converters.adapters.finite import all_finite
from converters.adapters.module import Factors, Family, Module, Shape
from converters.errors import MergeProblem, WrongFamily
from converters.statedict import LazyTensor

if TYPE_CHECKING:
    from converters.compute import Tensor


def lora_shape(module: Module) -> Shape:
    """Shape (out, in, *kernel) of the change; a kernel of ones is left out.

    Raises WrongFamily naming the module when up, middle and down do not fit each other.
    """
    up, down, mid = (module.tensors.get(role) for role in ("up", "down", "mid"))
    if up is None or down is None or len(up.shape) < 2 or len(down.shape) < 2:
        raise _misfit(module)
    kernel = _kernel(down) if mid is None else _kernel(mid)
    inner_fits = mid is None or (mid.shape[:2] == (up.shape[1], down.shape[0]) and _is_flat(down))
    ranks_fit = up.shape[1] == down.shape[0] if mid is None else len(mid.shape) == 4
    if not (inner_fits and ranks_fit and _is_flat(up)):
        raise _misfit(module)
    return (up.shape[0], down.shape[1], *kernel)


def lora_factors(module: Module) -> Factors:
    """The change in float32. Raises MergeProblem when a tensor is not finite."""
    up = _finite(module, "up").flatten(1)
    down = _finite(module, "down")
    if "mid" in module.tensors:
        mid = _finite(module, "mid")
        rank, _, *kernel = mid.shape
        spread = mid.permute(0, 2, 3, 1).flatten(0, 2) @ down.flatten(1)
        down = spread.reshape(rank, math.prod(kernel), -1).transpose(1, 2)
    return Factors(up, down.flatten(1), _scale(module))


def _scale(module: Module) -> float:
    """The factor alpha / rank; a missing alpha means alpha = rank."""
    if "alpha" not in module.tensors:
        return 1.0
    alpha = float(_finite(module, "alpha").item())
    return alpha / module.tensors["down"].shape[0]


def _finite(module: Module, role: str) -> Tensor:
    from converters.compute import value

    tensor = value(module.tensors[role]).float()
    if not all_finite(tensor):
        raise MergeProblem(
            f"{module.tensors[role].origin} holds NaN or infinite values",
            hint="the training of this adapter went wrong; it cannot be merged",
        )
    return tensor


def _kernel(tensor: LazyTensor) -> Shape:
    kernel = tensor.shape[2:]
    return () if set(kernel) <= {1} else kernel


def _is_flat(tensor: LazyTensor) -> bool:
    return not _kernel(tensor)


def _misfit(module: Module) -> WrongFamily:
    shapes = ", ".join(
        f"{role} {list(module.tensors[role].shape)}"
        for role in ("up", "mid", "down")
        if role in module.tensors
    )
    return WrongFamily(f"the tensors of module {module.name} do not fit each other: {shapes}")


LORA = Family("lora", frozenset({"up", "down"}), frozenset({"alpha"}), lora_shape, lora_factors)
LOCON = Family(
    "locon", frozenset({"up", "down", "mid"}), frozenset({"alpha"}), lora_shape, lora_factors
)
