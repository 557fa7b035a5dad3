"""LoKr: a weight changes by scale · (w1 ⊗ w2), the Kronecker product.

w1 is stored whole or as w1_a · w1_b; w2 whole, as w2_a · w2_b (w2_b flattened over the kernel), or
as Σ_ij t2[i, j, ...] · w2_a[i, p] · w2_b[j, q]. The rank in alpha / rank is that of w2's factors,
of w1's where w2 is whole; with neither, alpha is ignored. Source: KohakuBlueleaf/LyCORIS
`lycoris/functional/lokr.py`, ComfyUI `comfy/weight_adapter/lokr.py` (the order of ranks);
huggingface/peft `tuners/lokr/layer.py`, where the configuration scales whole matrices too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.adapters.loha import tucker
from converters.adapters.module import (
    SCALED,
    Family,
    Module,
    Shape,
    adding,
    kernel_of,
    numbers,
    rank_of,
    scale,
)

if TYPE_CHECKING:
    from converters.compute import Tensor


def _shape(module: Module) -> Shape:
    first, second = _first_shape(module), _second_shape(module)
    if len(first) != 2 or len(second) < 2:
        raise module.misfit()
    return (first[0] * second[0], first[1] * second[1], *kernel_of(second))


def _first_shape(module: Module) -> Shape:
    if "lokr_w1" in module.tensors:
        return module.shape("lokr_w1")
    return _factored_shape(module, "lokr_w1")


def _second_shape(module: Module) -> Shape:
    if "lokr_w2" in module.tensors:
        return module.shape("lokr_w2")
    if "lokr_t2" not in module.tensors:
        return _factored_shape(module, "lokr_w2")
    core, a, b = (module.shape(role) for role in ("lokr_t2", "lokr_w2_a", "lokr_w2_b"))
    if len(core) < 3 or len(a) != 2 or len(b) != 2 or core[:2] != (a[0], b[0]) or not b[0]:
        raise module.misfit()
    return (a[1], b[1], *core[2:])


def _factored_shape(module: Module, role: str) -> Shape:
    a, b = module.shape(f"{role}_a"), module.shape(f"{role}_b")
    if len(a) != 2 or len(b) < 2 or a[1] != b[0] or not b[0]:
        raise module.misfit()
    return (a[0], *b[1:])


def _delta(module: Module) -> Tensor:
    """w1 (a, c) ⊗ w2 (b, d · kernel), which is (a · b, c · d · kernel) in C order."""
    return _first(module).kron(_second(module).flatten(1)).mul_(lokr_scale(module))


def _first(module: Module) -> Tensor:
    if "lokr_w1" in module.tensors:
        return numbers(module, "lokr_w1")
    return numbers(module, "lokr_w1_a") @ numbers(module, "lokr_w1_b")


def _second(module: Module) -> Tensor:
    if "lokr_w2" in module.tensors:
        return numbers(module, "lokr_w2")
    a, b = numbers(module, "lokr_w2_a"), numbers(module, "lokr_w2_b")
    if "lokr_t2" in module.tensors:
        return tucker(numbers(module, "lokr_t2"), a, b)
    return a @ b.flatten(1)


def lokr_scale(module: Module) -> float:
    """What the product is multiplied by. Raises MergeProblem for a broken alpha."""
    if rank := rank_of(module):
        return scale(module, rank)
    if "scale" in module.tensors:
        return scale(module, 1)
    if "alpha" in module.tensors:
        numbers(module, "alpha")  # ignored, but a broken one still tells of a broken training
    return 1.0 if module.stated.scale is None else module.stated.scale


_FIRST = (frozenset({"lokr_w1"}), frozenset({"lokr_w1_a", "lokr_w1_b"}))
_SECOND = (
    frozenset({"lokr_w2"}),
    frozenset({"lokr_w2_a", "lokr_w2_b"}),
    frozenset({"lokr_w2_a", "lokr_w2_b", "lokr_t2"}),
)
LOKR = tuple(
    Family(
        "lokr",
        first | second,
        SCALED,
        _shape,
        adding(_delta),
        decomposes=True,
        adds=True,
    )
    for first in _FIRST
    for second in _SECOND
)
