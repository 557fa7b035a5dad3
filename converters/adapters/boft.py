"""BOFT: a chain of rotations of butterfly-ordered blocks.

LyCORIS stores `oft_blocks` (m, n, b, b), n · b = out; having four axes, they are `boft_blocks`
here. At stage i the rows are gathered so that partners are 2^i · b/2 apart, each block of b is
multiplied by its rotation, and the order is restored; `rescale` multiplies the rows at the end.
PEFT's `boft_R` (m, n, b, b) acts on the inputs, whose partners it gathers b/2 at a time, with half
the skew matrix and the inverse rotation; `boft_s` scales the outputs. Source:
KohakuBlueleaf/LyCORIS `lycoris/functional/boft.py`, huggingface/peft `tuners/boft/layer.py`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from converters.adapters.module import Family, Module, Shape, numbers
from converters.adapters.oft import (
    identity_like,
    rescale,
    rescale_fits,
    rotations,
    rows_fit,
    skew_of,
)

if TYPE_CHECKING:
    from converters.compute import Tensor


def _shape(module: Module) -> Shape:
    rows = _stages(module, "boft_blocks")
    if not rescale_fits(module, rows):
        raise module.misfit()
    return (rows,)


def _stages(module: Module, role: str) -> int:
    """The length of the axis that the blocks turn."""
    shape = module.shape(role)
    if len(shape) != 4 or shape[2] != shape[3] or not all(shape) or shape[2] % 2:
        raise module.misfit()
    stages, blocks, size, _ = shape
    if blocks * size % (2 ** (stages - 1) * size):
        raise module.misfit()
    return blocks * size


def _apply(module: Module, weight: Tensor, strength: float) -> None:
    turns = rotations(skew_of(module, "boft_blocks", weight.shape[0]))
    blended = identity_like(turns).lerp(turns, strength)
    turned = weight.view(weight.shape[0], -1)
    for stage, blocks in enumerate(blended):
        turned = _stage(turned, blocks, stage)
    weight.copy_(turned.view(weight.shape))
    rescale(module, weight)


def _stage(rows: Tensor, blocks: Tensor, stage: int, together: int = 1) -> Tensor:
    """Multiply the rows, gathered in blocks of partners, by one stage's blocks (n, b, b).

    So many rows stay `together` when halves of a range are interleaved.
    """
    count, size, _ = blocks.shape
    reach, columns = 2**stage * (size // 2) // together, rows.shape[1]
    halves = rows.view(-1, 2, reach, together, columns)
    gathered = halves.transpose(1, 2).reshape(count, size, columns)
    turned = (blocks @ gathered).view(-1, reach, 2, together, columns)
    return turned.transpose(1, 2).reshape(rows.shape)


def _peft_shape(module: Module) -> Shape:
    inputs = _stages(module, "boft_R")
    return (module.tensors["boft_s"].numel, inputs)


def _covers_peft(change: Shape, weight: Shape) -> bool:
    return len(weight) >= 2 and change == (weight[0], math.prod(weight[1:]))


def _apply_peft(module: Module, weight: Tensor, strength: float) -> None:
    halves = numbers(module, "boft_R") / 2
    turns = rotations(halves.transpose(-1, -2) - halves)
    inputs = weight.view(weight.shape[0], -1)
    turned = inputs.t().contiguous()
    for stage, blocks in enumerate(turns):
        turned = _stage(turned, blocks, stage, together=blocks.shape[-1] // 2)
    inputs.lerp_(turned.t() * numbers(module, "boft_s").reshape(-1, 1), strength)


BOFT = Family(
    "boft",
    frozenset({"boft_blocks"}),
    frozenset({"alpha", "rescale"}),
    _shape,
    _apply,
    covers=rows_fit,
)
BOFT_PEFT = Family(
    "boft",
    frozenset({"boft_R", "boft_s"}),
    frozenset(),
    _peft_shape,
    _apply_peft,
    covers=_covers_peft,
)
