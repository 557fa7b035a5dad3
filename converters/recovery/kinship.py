"""Telling ingredients from relatives: models that only stand for an ingredient that is not there.

Models of a family have most in common. Where one ingredient is unknown, the others of the family
share its weight among themselves, as each of them holds what it has in common with it. The mean of
all models that are not chosen does that as well: what it can replace is no ingredient, and its
weight is that of the unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from converters.recovery.elimination import Choice
from converters.recovery.least_squares import Grams, solve

if TYPE_CHECKING:
    from converters.recovery.least_squares import Floats

_WORSE = 1.1
"""What is left over without an ingredient, against that with it."""
_CONVINCING = 0.5
"""The share of the change that ingredients must explain when there is nothing to compare with."""
_NEEDED = 0.98


def ingredients_in(grams: Grams, choice: Choice) -> Choice:
    """The candidates of a choice that relatives cannot replace; at least one model stays."""
    while len(models := _models(grams, choice)) > 1:
        rest = {model: _without(grams, choice, model) for model in models}
        weakest = min(models, key=lambda model: rest[model])
        if rest[weakest] > _allowed(grams, choice):
            break
        choice = tuple(number for number in choice if number != weakest)
    return choice


def _models(grams: Grams, choice: Choice) -> list[int]:
    return [number for number in choice if number < grams.models]


def _strangers(grams: Grams, choice: Choice) -> list[int]:
    return [number for number in range(grams.models) if number not in choice]


def _without(grams: Grams, choice: Choice, model: int) -> float:
    """What is left over when a model's part falls to all that are not chosen."""
    smaller = tuple(number for number in choice if number != model)
    if not _strangers(grams, choice):
        return left_over(grams, smaller)
    return left_over(*with_strangers(grams, smaller))


def _allowed(grams: Grams, choice: Choice) -> float:
    if _strangers(grams, choice):
        return _WORSE * left_over(*with_strangers(grams, choice))
    return left_over(grams, choice) / (1 - _CONVINCING)


def with_strangers(grams: Grams, choice: Choice) -> tuple[Grams, Choice]:
    """The same candidates and, as one model more behind the models, the mean of those not chosen.

    The choice is given in their numbers, with that mean at its end.
    """
    import numpy as np

    count, at = grams.count, grams.models
    strangers = _strangers(grams, choice)
    rows = np.insert(np.eye(count), at, 0.0, axis=0)
    rows[at, strangers] = 1 / len(strangers)
    more = Grams(
        rows @ grams.products @ rows.T,
        grams.against @ rows.T,
        grams.square,
        grams.noise,
        grams.noises @ np.square(rows).T,
        grams.size,
        grams.models + 1,
    )
    return more, (*(number + (number >= at) for number in choice), at)


def left_over(grams: Grams, choice: Choice) -> float:
    """What a choice leaves over of the target's square."""
    return float(_solved(grams, choice)[1].sum())


def with_unknown(grams: Grams, choice: Choice) -> tuple[float, ...]:
    """The weights of a choice and, last, that of what none of the candidates is.

    Empty where the mean of the others, which stands for the unknown, explains nothing more.
    """
    if not _strangers(grams, choice):
        return ()
    more, longer = with_strangers(grams, choice)
    if left_over(more, longer) > _NEEDED * left_over(grams, choice):
        return ()
    ordered = _models_first(more, longer)
    weights = dict(zip(ordered, _solved(more.together(), ordered)[0][0], strict=True))
    return tuple(float(weights[number]) for number in longer)


def _solved(grams: Grams, choice: Sequence[int]) -> tuple[Floats, Floats]:
    import numpy as np

    solved = solve(grams, np.array([_models_first(grams, choice)], np.intp))
    return solved.weights[0], solved.residual[0]


def _models_first(grams: Grams, choice: Sequence[int]) -> list[int]:
    return sorted(choice, key=lambda number: number >= grams.models)
