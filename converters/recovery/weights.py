"""The weights of chosen candidates: the same everywhere or in each slot, plain where people are.

People mix with weights such as 0.3 or 0.75. What least squares find is moved to such a number where
that explains as much, so that a recipe gives the very bytes again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from converters.recovery.elimination import Choice
from converters.recovery.least_squares import Grams, normal_equations, solve
from converters.recovery.search import weights_of

if TYPE_CHECKING:
    from converters.recovery.least_squares import Floats

_PARTS = (10, 20, 3, 6, 7, 9, 11, 12, 100, 200, 1000)
"""Plain weights are multiples of a part of one; averages of several models have odd parts."""
_DIGITS = 9
_NEAR, _SIGMAS = 5e-4, 6.0
"""How far a weight may be moved, at least, and in standard deviations."""
_COST, _COST_OF_ROUNDING = 1.02, 0.02
"""How much more may be left over then: as a factor, and as a share of what rounding leaves."""


def heaviest_first(grams: Grams, choice: Choice) -> Choice:
    """The model with the largest weight first, then the other models, then adapters."""
    weights = dict(zip(choice, weights_of(grams, choice), strict=True))
    return tuple(sorted(choice, key=lambda n: (n >= grams.models, -abs(float(weights[n])))))


def everywhere(grams: Grams, choice: Choice) -> Floats:
    """The weights of a choice that are the same in all slots."""
    together = grams.together()
    return _plain(together, choice, weights_of(together, choice))


def all_plain(grams: Grams, choice: Choice) -> Iterator[Floats]:
    """Weights that are the same in all slots and all plain numbers, which explain about as much.

    Rounding goes along with what models have in common: the best weights of close relatives may be
    off by more than their deviations.
    """
    together = grams.together()
    matrix, right, rest = _equations(together, choice)
    free = weights_of(together, choice)[1:]
    allowed = _allowed(together, _left(matrix, right, rest, free))
    for parts in _PARTS:
        plain = (free * parts).round() / parts
        if _left(matrix, right, rest, plain) <= allowed:
            yield _complete(grams, choice, plain).round(_DIGITS)


def by_slot(grams: Grams, choice: Choice, mean: Floats) -> Iterator[Floats]:
    """The weights in each slot; where a slot tells nothing of one, it is that of `mean`."""
    import numpy as np

    for slot in range(len(grams.square)):
        own = grams.part(slot)
        matrix, right, _ = _equations(own, choice)
        inverse = np.linalg.pinv(matrix, rcond=1e-9, hermitian=True)
        free = mean[1:] + inverse @ (right - matrix @ mean[1:])
        yield _plain(own, choice, _complete(own, choice, free))


def deviations(grams: Grams, choice: Choice) -> Floats:
    """The standard deviation of each weight that is the same in all slots, by what is left over."""
    import numpy as np

    together = grams.together()
    matrix, _, _ = _equations(together, choice)
    residual = solve(together, np.array([choice], np.intp)).residual
    variance = float(residual.sum()) / max(1.0, float(together.size.sum()))
    inverse = np.linalg.pinv(matrix, rcond=1e-12, hermitian=True)
    of_models = np.array([number < grams.models for number in choice[1:]], np.float64)
    pivot = of_models @ inverse @ of_models if len(matrix) else 0.0
    spread = np.concatenate([[pivot], np.diagonal(inverse)])
    found: Floats = np.sqrt(np.maximum(spread * variance, 0.0))
    return found


def _equations(grams: Grams, choice: Choice) -> tuple[Floats, Floats, float]:
    """The normal equations of the first slot."""
    import numpy as np

    matrix, right, rest = normal_equations(grams, np.array([choice], np.intp))
    return matrix[0, 0], right[0, 0], float(rest[0, 0])


def _complete(grams: Grams, choice: Choice, free: Floats) -> Floats:
    """All weights, from those of all but the first."""
    import numpy as np

    of_models = [number < grams.models for number in choice[1:]]
    return np.concatenate([[1 - free[of_models].sum()], free])


def _plain(grams: Grams, choice: Choice, weights: Floats) -> Floats:
    """The weights of one slot, moved to plain numbers where that explains as much."""
    matrix, right, rest = _equations(grams, choice)
    free, spread = weights[1:].copy(), deviations(grams, choice)[1:]
    allowed = _allowed(grams, _left(matrix, right, rest, free))
    for position, deviation in enumerate(spread):
        for plain in _plain_near(float(free[position]), max(_NEAR, _SIGMAS * float(deviation))):
            moved = free.copy()
            moved[position] = plain
            if _left(matrix, right, rest, moved) <= allowed:
                free = moved
                break
    return _complete(grams, choice, free).round(_DIGITS)


def _left(matrix: Floats, right: Floats, rest: float, free: Floats) -> float:
    """What weights leave over of the target's square."""
    return max(0.0, float(rest - free @ (2 * right - matrix @ free)))


def _allowed(grams: Grams, least: float) -> float:
    """What plain weights may leave over where the best leave `least`."""
    return max(least * _COST, least + _COST_OF_ROUNDING * float(grams.noise.sum()))


def _plain_near(weight: float, reach: float) -> Iterator[float]:
    """The plain numbers within reach of a weight, the plainest first."""
    for parts in _PARTS:
        plain = round(weight * parts) / parts
        if abs(plain - weight) <= reach:
            yield plain
