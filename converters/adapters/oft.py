"""OFT: blocks of a weight's rows, or inputs, are rotated by R = (I + Q)(I - Q)⁻¹, Q = B - Bᵀ.

LyCORIS's Diag-OFT and kohya's OFT store `oft_blocks` (n, b, b), n · b = out: the rows of block k
become R_kᵀ · W_k, and `rescale` multiplies them; alpha · out bounds the norm of Q, 0 does not.
`oft_diag` of old LyCORIS is R itself. A strength m rotates by m · R + (1 - m) · I; `rescale` is not
weakened by it, as in LyCORIS and A1111. PEFT stores the upper triangles of Q in `oft_R`
(n or 1 for all, b(b - 1)/2) and rotates the inputs: W' = W · blockdiag(R)ᵀ with
R = (I - Q)(I + Q)⁻¹, or, as its configuration says and by default, with I + 2Q + 2Q² + 2Q³ + Q⁴; a
strength blends the weights. Source: KohakuBlueleaf/LyCORIS `lycoris/modules/diag_oft.py`,
kohya-ss/sd-scripts `networks/oft.py`, lllyasviel/stable-diffusion-webui-forge `network_oft.py`,
huggingface/peft `tuners/oft/layer.py`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from converters.adapters.module import Family, Module, Shape, numbers
from converters.norms import length

if TYPE_CHECKING:
    from converters.compute import Tensor

_TINY = 1e-8
"""What LyCORIS adds to a norm before it divides."""


def rotations(skew: Tensor) -> Tensor:
    """(I + Q)(I - Q)⁻¹ of skew-symmetric matrices (..., b, b)."""
    unit = identity_like(skew)
    return (unit + skew) @ (unit - skew).inverse()


def identity_like(matrices: Tensor) -> Tensor:
    """The identity (b, b) beside matrices (..., b, b)."""
    return matrices.new_zeros(matrices.shape[-2:]).fill_diagonal_(1)


def skew_of(module: Module, role: str, outputs: int) -> Tensor:
    """Q of a module's blocks, bounded if its alpha says so."""
    blocks = numbers(module, role)
    skew = blocks - blocks.transpose(-1, -2)
    bound = outputs * float(numbers(module, "alpha").item()) if "alpha" in module.tensors else 0.0
    if bound > 0 and (norm := length(skew) + _TINY) > bound:
        skew *= bound / norm
    return skew


def rescale(module: Module, weight: Tensor) -> None:
    """Multiply the rows of a weight by the module's `rescale`, if it has one."""
    if "rescale" in module.tensors:
        shape = (-1, *(1 for _ in range(weight.dim() - 1)))
        weight.mul_(numbers(module, "rescale").reshape(shape))


def rescale_fits(module: Module, outputs: int) -> bool:
    """Whether a `rescale` has one number for each row, if there is any."""
    return "rescale" not in module.tensors or module.tensors["rescale"].numel == outputs


def _shape(module: Module) -> Shape:
    return _block_rows(module, "oft_blocks")


def _diag_shape(module: Module) -> Shape:
    return _block_rows(module, "oft_diag")


def _block_rows(module: Module, role: str) -> Shape:
    shape = module.shape(role)
    if len(shape) != 3 or shape[1] != shape[2] or not shape[1]:
        raise module.misfit()
    rows = shape[0] * shape[1]
    if not rescale_fits(module, rows):
        raise module.misfit()
    return (rows,)


def rows_fit(rows: Shape, weight: Shape) -> bool:
    """Whether blocks cover the rows of a weight."""
    return len(weight) >= 2 and weight[0] == rows[0]


def _apply(module: Module, weight: Tensor, strength: float) -> None:
    _rotate_rows(weight, rotations(skew_of(module, "oft_blocks", weight.shape[0])), strength)
    rescale(module, weight)


def _apply_diag(module: Module, weight: Tensor, strength: float) -> None:
    _rotate_rows(weight, numbers(module, "oft_diag"), strength)
    rescale(module, weight)


def _rotate_rows(weight: Tensor, matrices: Tensor, strength: float) -> None:
    rows = weight.view(*matrices.shape[:2], -1)
    rows.lerp_(matrices.transpose(1, 2) @ rows, strength)


def _peft_shape(module: Module) -> Shape:
    shape = module.shape("oft_R")
    if len(shape) != 2 or not all(shape) or math.comb(_block_size(shape[1]), 2) != shape[1]:
        raise module.misfit()
    return (shape[0], _block_size(shape[1]))


def _block_size(triangle: int) -> int:
    """b, of the b(b - 1)/2 numbers above a diagonal."""
    return (1 + math.isqrt(1 + 8 * triangle)) // 2


def _inputs_fit(blocks: Shape, weight: Shape) -> bool:
    count, size = blocks
    inputs = math.prod(weight[1:])
    return len(weight) >= 2 and inputs % size == 0 and count in (1, inputs // size)


def _apply_peft(module: Module, weight: Tensor, strength: float) -> None:
    triangles = numbers(module, "oft_R")
    size = _block_size(triangles.shape[1])
    skew = triangles.new_zeros((triangles.shape[0], size, size))
    skew[:, identity_like(skew).fill_(1).triu(1).bool()] = triangles
    skew -= skew.transpose(1, 2).clone()
    turned = _series(skew) if module.stated.cayley_series else rotations(-skew)
    inputs = weight.view(weight.shape[0], -1, size).transpose(0, 1)
    inputs.lerp_(inputs @ turned.transpose(1, 2), strength)


def _series(skew: Tensor) -> Tensor:
    """I + 2Q + 2Q² + 2Q³ + Q⁴, PEFT's five terms."""
    square = skew @ skew
    ends = identity_like(skew) + square @ square
    return ends + 2 * (skew + square + square @ skew)


OFT = Family(
    "oft",
    frozenset({"oft_blocks"}),
    frozenset({"alpha", "rescale"}),
    _shape,
    _apply,
    covers=rows_fit,
)
OFT_DIAG = Family(
    "oft",
    frozenset({"oft_diag"}),
    frozenset({"alpha", "rescale"}),
    _diag_shape,
    _apply_diag,
    covers=rows_fit,
)
OFT_PEFT = Family(
    "oft",
    frozenset({"oft_R"}),
    frozenset(),
    _peft_shape,
    _apply_peft,
    covers=_inputs_fit,
)
