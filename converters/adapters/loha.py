"""LoHa: a weight changes by (alpha / rank) · (w1_a · w1_b) ∘ (w2_a · w2_b), entry by entry.

Linear layers and convolutions have w*_a (out, r) and w*_b (r, in · kernel). In the Tucker form they
have w*_a (r, out), w*_b (r, in) and a core t* (r, r, kh, kw), and each product is
Σ_ij t[i, j, k, l] · a[i, p] · b[j, q]. Source: KohakuBlueleaf/LyCORIS `lycoris/functional/loha.py`
(the training pass: the merge of LyCORIS 4.1 scales twice).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.adapters.module import (
    SCALED,
    Family,
    Module,
    Shape,
    adding,
    kernel_of,
    numbers,
    same_weight,
    scale,
)

if TYPE_CHECKING:
    from converters.compute import Tensor

_PARTS = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
_CORES = ("hada_t1", "hada_t2")


def _shape(module: Module) -> Shape:
    first, second = (_product_shape(module, half) for half in (1, 2))
    if not same_weight(first, second) and not same_weight(second, first):
        raise module.misfit()
    return first


def _product_shape(module: Module, half: int) -> Shape:
    a, b = module.shape(f"hada_w{half}_a"), module.shape(f"hada_w{half}_b")
    core = f"hada_t{half}"
    if len(a) != 2 or len(b) < 2 or not b[0]:
        raise module.misfit()
    if core not in module.tensors:
        if a[1] != b[0]:
            raise module.misfit()
        return (a[0], *b[1:])
    t = module.shape(core)
    if len(t) < 3 or t[:2] != (a[0], b[0]) or len(b) != 2:
        raise module.misfit()
    return (a[1], b[1], *kernel_of(t))


def _delta(module: Module) -> Tensor:
    change = _product(module, 1).mul_(_product(module, 2))
    return change.mul_(scale(module, module.shape("hada_w1_b")[0]))


def _product(module: Module, half: int) -> Tensor:
    """One of the two matrices (out, in · kernel)."""
    a, b = numbers(module, f"hada_w{half}_a"), numbers(module, f"hada_w{half}_b")
    core = f"hada_t{half}"
    if core not in module.tensors:
        return a @ b.flatten(1)
    return tucker(numbers(module, core), a, b).flatten(1)


def tucker(core: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Σ_ij core[i, j, ...] · a[i, p] · b[j, q], of shape (p, q, ...).

    The smaller of the two possible intermediate results is made, which stays in proportion to the
    factors whatever their shapes.
    """
    flat = core.flatten(2)
    ranks, outer = flat.shape[:2], (a.shape[1], b.shape[1])
    if outer[0] * ranks[1] <= ranks[0] * outer[1]:
        left = (a.t() @ flat.flatten(1)).view(outer[0], ranks[1], -1)
        product = b.t() @ left
    else:
        right = b.t() @ flat
        product = (a.t() @ right.flatten(1)).view(*outer, -1)
    return product.view(*outer, *core.shape[2:])


LOHA = Family(
    "loha",
    frozenset(_PARTS),
    SCALED,
    _shape,
    adding(_delta),
    decomposes=True,
    adds=True,
)
LOHA_TUCKER = Family(
    "loha",
    frozenset({*_PARTS, *_CORES}),
    SCALED,
    _shape,
    adding(_delta),
    decomposes=True,
    adds=True,
)
