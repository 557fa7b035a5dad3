"""Cosine A and B: B where the models differ, A where they are alike, column by column.

For the columns a, b of A and B (vectors along the first axis) the similarity s is the mean of
cos(a, b) and of the cosine of the whole tensors, in variant A after each column was brought to
length one. With lo and hi, the extremes of all similarities of the model but for the outermost
percents: k = (s - lo) / (hi - lo) - α, held within 0..1, and the result k · A + (1 - k) · B.

lo and hi are of s in variant B, of cos(a, b) alone in variant A; the VAE stays A's. Source:
hako-mikan/sd-webui-supermerger `scripts/mergers/mergers.py` (cosineA, cosineB), which takes |α| in
variant A, and whose similarity to a vector of zeros is undefined: here it is 0, as is that of
vectors whose lengths leave float32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from converters.layouts.components import VAE
from converters.merge.checkpoints.method import A, B, Method, Models, Numbers, Spread
from converters.norms import column_lengths, inner, length

if TYPE_CHECKING:
    from converters.compute import Tensor

Similarity = Callable[["Tensor", "Tensor"], "Tensor"]

_TINY = 1e-12
_OUTER_PERCENT = 1


def _columns(a: Tensor, b: Tensor) -> Tensor:
    """The cosine of each pair of columns."""
    return _cosine((a * b).sum(dim=0), column_lengths(a) * column_lengths(b))


def _with_whole(a: Tensor, b: Tensor) -> Tensor:
    """The mean of the columns' cosines and that of the whole tensors."""
    whole = _cosine(a.new_tensor(inner(a, b)), a.new_tensor(length(a) * length(b)))
    return (_columns(a, b) + whole) / 2


def _cosine(product: Tensor, lengths: Tensor) -> Tensor:
    return (product / lengths.clamp(min=_TINY)).nan_to_num_(0.0, 0.0, 0.0)


def _with_whole_of_unit_columns(a: Tensor, b: Tensor) -> Tensor:
    return _with_whole(_unit_columns(a), _unit_columns(b))


def _unit_columns(tensor: Tensor) -> Tensor:
    unit: Tensor = tensor / column_lengths(tensor).clamp(min=_TINY)
    return unit


def _vectors(tensor: Tensor) -> Tensor:
    """A single number is a column of one."""
    return tensor.reshape(1) if not tensor.dim() else tensor


def _merge(similarity: Similarity, models: Models, numbers: Numbers) -> Tensor:
    a, b = _vectors(models[A]), _vectors(models[B])
    lowest, highest = numbers.spread
    width = highest - lowest or 1.0
    k = ((similarity(a, b) - lowest) / width - numbers.alpha).clamp(0, 1)
    return (b + (a - b) * k).reshape(models[A].shape)


def cosine_a(models: Models, numbers: Numbers) -> Tensor:
    """The structure of A with details of B."""
    positive = replace(numbers, alpha=abs(numbers.alpha))
    return _merge(_with_whole_of_unit_columns, models, positive)


def cosine_b(models: Models, numbers: Numbers) -> Tensor:
    """The structure of B with details of A."""
    return _merge(_with_whole, models, numbers)


def _survey(similarity: Similarity, tensors: Iterable[Models]) -> Spread:
    """The extremes of all similarities without the outermost percents at both ends."""
    import numpy as np

    found = [similarity(_vectors(m[A]), _vectors(m[B])).reshape(-1).numpy() for m in tensors]
    values = np.concatenate(found) if found else np.zeros(1)
    for end in (_OUTER_PERCENT, 100 - _OUTER_PERCENT):
        border = np.percentile(values, end, method="midpoint")
        values = values[values >= border] if end == _OUTER_PERCENT else values[values <= border]
    return float(values.min()), float(values.max())


COSINE_A = Method(
    "cosine-a",
    cosine_a,
    picks=None,
    elementwise=False,
    spared=frozenset({VAE}),
    survey=functools.partial(_survey, _columns),
)
COSINE_B = Method(
    "cosine-b",
    cosine_b,
    picks=None,
    elementwise=False,
    spared=frozenset({VAE}),
    survey=functools.partial(_survey, _with_whole),
)
