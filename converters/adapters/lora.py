"""LoRA and LoCon: a weight changes by (alpha / rank) · up · down, with an optional middle.

Linear, 1x1 and k x k convolutions follow one formula once the weight is flattened to
(out, in · kernel): the change of a convolution is up (out, r) times down (r, in · kh · kw), as in
kohya-ss/sd-scripts `networks/lora.py`. With a middle (the Tucker/CP form of KohakuBlueleaf/LyCORIS
`lycoris/functional/locon.py`) down becomes Σ_j mid[i, j, k, l] · down[j, q], and up stays. PEFT's B
and A are up and down.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from converters.adapters.module import (
    SCALED,
    Factors,
    Family,
    Module,
    Rows,
    Shape,
    kernel_of,
    numbers,
    scale,
)

if TYPE_CHECKING:
    from converters.compute import Tensor


def lora_shape(module: Module) -> Shape:
    """Shape (out, in, *kernel) of the change; a kernel of ones is left out.

    Raises WrongFamily naming the module when up, middle and down do not fit each other.
    """
    up, down = module.shape("up"), module.shape("down")
    if len(up) < 2 or len(down) < 2 or kernel_of(up) or not down[0]:
        raise module.misfit()
    if "mid" not in module.tensors:
        if up[1] != down[0]:
            raise module.misfit()
        return (up[0], down[1], *kernel_of(down))
    mid = module.shape("mid")
    if len(mid) != 4 or mid[:2] != (up[1], down[0]) or kernel_of(down):
        raise module.misfit()
    return (up[0], down[1], *kernel_of(mid))


def lora_factors(module: Module) -> Factors:
    """The change in float32. Raises MergeProblem when a tensor is not finite."""
    up, down = numbers(module, "up").flatten(1), numbers(module, "down")
    if "mid" in module.tensors:
        down = _spread(numbers(module, "mid"), down)
    return Factors(up, down.flatten(1), scale(module, module.shape("down")[0]))


def _spread(mid: Tensor, down: Tensor) -> Tensor:
    rank, _, *kernel = mid.shape
    spread = mid.permute(0, 2, 3, 1).flatten(0, 2) @ down.flatten(1)
    return spread.reshape(rank, math.prod(kernel), -1).transpose(1, 2)


def _pour(module: Module, up: Tensor, down: Tensor, rows: Rows | None) -> float:
    from converters.compute import floats, pour

    stored = module.tensors["up"]
    pour(up, stored if rows is None else stored.slice0(*rows))
    if "mid" in module.tensors:
        whole = _spread(floats(module.tensors["mid"]), floats(module.tensors["down"]))
        down.copy_(whole.flatten(1))
    else:
        pour(down, module.tensors["down"])
    return scale(module, module.shape("down")[0])


def _apply(module: Module, weight: Tensor, strength: float) -> None:
    factors = lora_factors(module)
    # A weight of one axis less has the same rows: flattening a matrix leaves it as it is.
    flat = weight.view(weight.shape[0], -1)
    flat.addmm_(factors.up, factors.down, alpha=factors.scale * strength)


LORA = Family(
    "lora",
    frozenset({"up", "down"}),
    SCALED,
    lora_shape,
    _apply,
    factors=lora_factors,
    pour=_pour,
    decomposes=True,
    adds=True,
)
LOCON = Family(
    "locon",
    frozenset({"up", "down", "mid"}),
    SCALED,
    lora_shape,
    _apply,
    factors=lora_factors,
    pour=_pour,
    decomposes=True,
    adds=True,
)
