"""Choices of candidates whose sum, rounded once, may be the target: all, less what is for nothing.

Relatives explain each other in part: of an average of several, fewer with odd weights leave over
little more than rounding, and a search that begins with few ends there. This begins with all of
them, and leaves out one by one what costs least.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from converters.recovery.least_squares import Grams, solve

if TYPE_CHECKING:
    from converters.recovery.least_squares import Floats

Choice = tuple[int, ...]
"""Candidates by number, models first, in rising order."""

_ONCE = 1.6
"""What may be left over, against what is to be expected of rounding once.

The mean of two neighbours on a grid lies between them: rounding is off by half a step as often
as by nothing, which makes 1.5.
"""
_MOST = 96
"""So many candidates are solved together; more would take seconds."""


def eliminations(grams: Grams, without: Collection[int] = ()) -> list[Choice]:
    """Choices with the same weights in all slots, the smallest first, each a part of the next.

    None of them has a candidate in `without`.
    """
    whole = grams.together()
    limit = _ONCE * float(whole.noise[0])
    choice = tuple(number for number in range(grams.count) if number not in without)
    if not choice or choice[0] >= grams.models:
        return []
    if len(choice) > _MOST or _left_over(whole, [choice])[0] > limit:
        return []
    found = [choice]
    while smaller := list(_without_one(choice, grams.models)):
        left = _left_over(whole, smaller)
        if left.min() > limit:
            break
        choice = smaller[int(left.argmin())]
        found.insert(0, choice)
    return found


def _without_one(choice: Choice, models: int) -> Iterator[Choice]:
    """What is left of a choice without one of its candidates; a model stays at its head."""
    for at in range(len(choice)):
        smaller = choice[:at] + choice[at + 1 :]
        if smaller and smaller[0] < models:
            yield smaller


def _left_over(whole: Grams, choices: Sequence[Choice]) -> Floats:
    """What each choice leaves over of the target's square."""
    import numpy as np

    left: Floats = solve(whole, np.array(choices, np.intp)).residual[:, 0]
    return left
