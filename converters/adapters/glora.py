"""GLoRA: W' = W + s · (W · a1 · a2 + b1 · b2), s = alpha / rank; convolutions contract W's inputs.

Today's files hold a1 (in, r), a2 (r, in), b1 (out, r) and b2 (r, in · kernel); with a middle bm
(r, r, kh, kw) the second product is that of LoCon. Those of LyCORIS before 2 hold a1 (r, in),
a2 (in, r), b1 (r, in) and b2 (out, r), and mean W · a2 · a1 + b2 · b1; where shapes allow both, in
square weights, they are told by the rank, as ComfyUI `comfy/weight_adapter/glora.py` does. Source:
KohakuBlueleaf/LyCORIS `lycoris/modules/glora.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.adapters.loha import tucker
from converters.adapters.module import (
    SCALED,
    Family,
    Module,
    Shape,
    kernel_of,
    numbers,
    same_layer,
    scale,
)

if TYPE_CHECKING:
    from converters.compute import Tensor

_PARTS = ("a1", "a2", "b1", "b2")


def _is_old(module: Module) -> bool:
    """Whether the parts stand as before LyCORIS 2; for a square weight the rank is the less."""
    a1, a2, b1, b2 = (module.shape(role) for role in _PARTS)
    could_be = b2[1] == b1[0] == a1[0] == a2[1] and a1[1] == a2[0]
    could_be_new = b2[0] == b1[1] == a1[1] == a2[0] and a1[0] == a2[1]
    return could_be and not (could_be_new and b2[0] < b2[1])


def _shape(module: Module) -> Shape:
    shapes = [module.shape(role) for role in _PARTS]
    if any(len(shape) < 2 or not shape[0] for shape in shapes):
        raise module.misfit()
    a1, a2, b1, b2 = shapes
    if "bm" not in module.tensors and _is_old(module) and b1[1] == a1[1]:
        return (b2[0], b1[1], *kernel_of(b1))
    if not (b2[0] == b1[1] == a1[1] == a2[0] and a1[0] == a2[1] == b2[1]):
        raise module.misfit()
    if "bm" not in module.tensors:
        return (b1[0], b2[1], *kernel_of(b2))
    core = module.shape("bm")
    if len(core) < 3 or core[:2] != (b1[1], b2[0]) or kernel_of(b2):
        raise module.misfit()
    return (b1[0], b2[1], *kernel_of(core))


def _apply(module: Module, weight: Tensor, strength: float) -> None:
    factor = strength * scale(module, _rank(module))
    a1, a2, b1, b2 = (numbers(module, role) for role in _PARTS)
    if "bm" not in module.tensors and _is_old(module):
        a1, a2, b1, b2 = a2, a1, b2, b1
    if "bm" in module.tensors:
        core = numbers(module, "bm")
        added = tucker(core, b1.flatten(1).t(), b2.flatten(1))
    else:
        added = b1.flatten(1) @ b2.flatten(1)
    rows = weight.view(weight.shape[0], weight.shape[1], -1)
    mixed = (rows.transpose(1, 2) @ a1.flatten(1) @ a2.flatten(1)).transpose(1, 2)
    weight.add_(mixed.reshape(weight.shape), alpha=factor)
    weight.add_(added.reshape(weight.shape), alpha=factor)


def _rank(module: Module) -> int:
    if "bm" not in module.tensors and _is_old(module):
        return module.shape("b1")[0]
    return module.shape("b2")[0]


GLORA = Family(
    "glora",
    frozenset(_PARTS),
    SCALED | {"bm"},
    _shape,
    _apply,
    covers=same_layer,
    decomposes=True,
)
