"""Least squares for many choices of a few models at once, from their inner products alone.

The target is a sum of models whose weights add up to one and of adapters with any weights. With one
of the models as pivot p that is free of conditions: target - p = Σ w · (model - p) + Σ v · adapter.
Each slot has weights of its own; for weights that are the same everywhere, slots are added up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.recovery.rounding import rounding_energy

if TYPE_CHECKING:
    from numpy import float64, intp
    from numpy.typing import NDArray

    from converters.recovery.rounding import Grid
    from converters.recovery.sampling import Values

    Floats = NDArray[float64]
    Choices = NDArray[intp]

_RIDGE = 1e-10
"""Share of the largest square that keeps equal models from having no solution."""
_AT_A_TIME = 1 << 20
"""Numbers in the systems that are solved together."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """The values of a model's sample, and the grid that they lie on; None for an adapter's."""

    values: Values
    grid: Grid | None = None


@dataclass(frozen=True, slots=True)
class Grams:
    """Inner products of the candidates, of the target with them, and of the target, by slot.

    Shapes (slots, n, n), (slots, n) and (slots); all are differences to one model. The first
    `models` candidates are models, the others adapters. `noise` (slots) and `noises` (slots, n)
    are what rounding did to the target and to the candidates, `size` (slots) counts the values.
    """

    products: Floats
    against: Floats
    square: Floats
    noise: Floats
    noises: Floats
    size: Floats
    models: int

    @property
    def count(self) -> int:
        """How many candidates there are."""
        return int(self.products.shape[1])

    def together(self) -> Grams:
        """All slots as one."""
        return self._each(lambda array: array.sum(axis=0, keepdims=True))

    def part(self, slot: int) -> Grams:
        """One slot alone."""
        return self._each(lambda array: array[slot : slot + 1])

    def _each(self, change: Callable[[Floats], Floats]) -> Grams:
        return Grams(
            change(self.products),
            change(self.against),
            change(self.square),
            change(self.noise),
            change(self.noises),
            change(self.size),
            self.models,
        )

    def among(self, kept: Sequence[int]) -> Grams:
        """Only some of the candidates, in their order."""
        return Grams(
            self.products[:, kept][:, :, kept],
            self.against[:, kept],
            self.square,
            self.noise,
            self.noises[:, kept],
            self.size,
            sum(candidate < self.models for candidate in kept),
        )


def grams_of(
    target: Sampled,
    models: Sequence[Sampled],
    adapters: Sequence[Sampled],
    bounds: Sequence[tuple[int, int]],
) -> Grams:
    """The inner products of all that is compared; `bounds` are those of the slots."""
    import numpy as np

    origin = min(models, key=lambda model: float(np.square(target.values - model.values).sum()))
    rows = [model.values - origin.values for model in models]
    rows += [adapter.values for adapter in adapters]
    goal = target.values - origin.values
    products, against, square = [], [], []
    for start, stop in bounds:
        block = np.stack([row[start:stop] for row in rows]).astype(np.float64)
        aim = goal[start:stop].astype(np.float64)
        products.append(block @ block.T)
        against.append(block @ aim)
        square.append(aim @ aim)
    everything = [*models, *adapters]
    return Grams(
        np.stack(products),
        np.stack(against),
        np.array(square),
        np.array([_noise(target, *bound) for bound in bounds]),
        np.array([[_noise(each, *bound) for each in everything] for bound in bounds]),
        np.array([stop - start for start, stop in bounds], np.float64),
        len(models),
    )


def _noise(sampled: Sampled, start: int, stop: int) -> float:
    if sampled.grid is None:
        return 0.0
    return rounding_energy(sampled.values[start:stop], sampled.grid)


@dataclass(frozen=True, slots=True)
class Solved:
    """Solutions of several choices of k candidates, the first of each a model, the pivot.

    `weights` (choices, slots, k) have that of the pivot first; `residual` (choices, slots) is what
    is left over of the target's square.
    """

    choices: Choices
    weights: Floats
    residual: Floats


def solve(grams: Grams, choices: Choices) -> Solved:
    """The best weights for each row of `choices` (choices, k), in each slot."""
    import numpy as np

    found = [_solve(grams, some) for some in _portions(grams, choices)]
    return Solved(
        choices,
        np.concatenate([weights for weights, _ in found]),
        np.concatenate([residual for _, residual in found]),
    )


def _portions(grams: Grams, choices: Choices) -> Iterator[Choices]:
    numbers = len(grams.square) * choices.shape[1] ** 2
    portion = max(1, _AT_A_TIME // numbers)
    return (choices[start : start + portion] for start in range(0, len(choices), portion))


def _solve(grams: Grams, choices: Choices) -> tuple[Floats, Floats]:
    import numpy as np

    matrix, right, rest = normal_equations(grams, choices)
    weights = np.linalg.solve(_ridged(matrix), right[..., None])[..., 0]
    fitted = np.einsum("csij,csj->csi", matrix, weights)
    residual = rest - np.einsum("csi,csi->cs", weights, 2 * right - fitted)
    of_models = (choices[:, 1:] < grams.models)[:, None, :]
    pivot = 1 - np.where(of_models, weights, 0.0).sum(axis=-1, keepdims=True)
    return np.concatenate([pivot, weights], axis=-1), np.maximum(residual, 0.0)


def normal_equations(grams: Grams, choices: Choices) -> tuple[Floats, Floats, Floats]:
    """Matrix (choices, slots, k-1, k-1), right side, and the square that is to be explained."""
    import numpy as np

    pivot, others = choices[:, 0], choices[:, 1:]
    differs = (others < grams.models).astype(np.float64)[:, None, :]
    inner = grams.products[:, others[:, :, None], others[:, None, :]].swapaxes(0, 1)
    cross = grams.products[:, others, pivot[:, None]].swapaxes(0, 1)
    own = grams.products[:, pivot, pivot].T
    matrix = (
        inner
        - differs[..., :, None] * cross[..., None, :]
        - cross[..., :, None] * differs[..., None, :]
        + differs[..., :, None] * differs[..., None, :] * own[..., None, None]
    )
    aim = grams.against[:, pivot].T
    right = grams.against[:, others].swapaxes(0, 1) - cross
    right = right - differs * (aim - own)[..., None]
    return matrix, right, grams.square - 2 * aim + own


def _ridged(matrix: Floats) -> Floats:
    import numpy as np

    size = matrix.shape[-1]
    largest = np.abs(np.diagonal(matrix, axis1=-2, axis2=-1)).max(axis=-1, initial=0.0)
    ridge = np.maximum(largest * _RIDGE, np.finfo(np.float64).tiny)
    ridged: Floats = matrix + ridge[..., None, None] * np.eye(size)
    return ridged
