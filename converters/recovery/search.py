"""The fewest candidates that explain a target: a beam search over choices of them.

Every choice is solved by least squares with weights of its own in each slot. Pairs are tried beside
single candidates, because of a difference of two models neither half explains anything. The search
ends where what is left over is what rounding leaves, or where another candidate would explain no
more than chance and kinship do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from converters.recovery.elimination import Choice, eliminations
from converters.recovery.least_squares import Grams, Sampled, grams_of, solve

if TYPE_CHECKING:
    from converters.recovery.least_squares import Choices, Floats
    from converters.recovery.sampling import Values

MOST_INGREDIENTS = 12
_BEAM = 12
_PAIRED = 120
"""So many candidates are tried in pairs; more would take seconds."""
_GAIN = 0.02
"""The share of what is left over that another candidate must take away."""
_GAIN_OF_ROUNDING = 0.3
"""The same where that is no more than rounding: it may be what an adapter of small weight did."""
_GENEROUS = 3.0
"""Rounding may have happened three times: programs that merge in half precision round products."""
_SPREAD = 1.3
_NEARLY = 1.02
_OF_ROUNDING = 2.0
"""Choices that leave over so many times the least are as good; or where that is rounding."""
_OF_BLOCKS = 3
"""How much more unusual a recipe is that needs weights for each block."""
_TINY = 1e-24
"""Share of the target's square that sums in float64 lose."""


@dataclass(frozen=True, slots=True)
class Found:
    """A choice, what it leaves over of the target's square, and whether that is only rounding.

    `oddity` tells how unusual the recipe is, `is_plain` whether rounding once leaves as much.
    """

    choice: Choice
    residual: float
    is_explained: bool
    oddity: int
    is_plain: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """The best choice, and others of its size that are as good."""

    best: Found
    rivals: tuple[Found, ...]


def search(grams: Grams) -> Outcome:
    """The fewest candidates that explain the target as well as it can be explained."""
    leaders: dict[int, list[Found]] = {}
    pools: dict[int, set[Choice]] = {1: {(number,) for number in range(grams.models)}}
    most = min(MOST_INGREDIENTS, grams.count)
    for size in range(1, most + 1):
        pool = pools.pop(size, set())
        if not pool:
            break
        leaders[size] = score(grams, pool)[: _BEAM * 2]
        if _is_settled(leaders, size):
            break
        beam = [found.choice for found in leaders[size][:_BEAM]]
        pools.setdefault(size + 1, set()).update(_with_one_more(beam, grams))
        if not leaders[size][0].is_explained:
            pools.setdefault(size + 2, set()).update(_with_a_pair(beam[0], grams))
    return _chosen(leaders, grams.models)


def shortlist(grams: Grams, count: int) -> set[int]:
    """The candidates that a closer look should be at: the best choices, and what adds to them."""
    outcome = search(grams)
    best = outcome.best.choice
    survivors = (number for choice in eliminations(grams) for number in choice)
    ranked = [*best, *list(dict.fromkeys(survivors))[: count // 2]]
    ranked += [number for rival in outcome.rivals for number in rival.choice]
    for added in score(grams, _with_one_more([best], grams)) if len(best) < grams.count else ():
        ranked += [number for number in added.choice if number not in best][: count // 2]
    ranked += [found.choice[0] for found in score(grams, {(n,) for n in range(grams.models)})]
    return set(list(dict.fromkeys(ranked))[:count])


def residual_of(
    target: Sampled, models: Sequence[Sampled], bounds: Sequence[tuple[int, int]]
) -> Values:
    """What the best choice of models leaves over of the target's values."""
    import numpy as np

    grams = grams_of(target, models, (), bounds)
    choice = search(grams).best.choice
    weights = solve(grams, np.array([choice], np.intp)).weights[0]
    left = target.values.copy()
    for (start, stop), own in zip(bounds, weights, strict=True):
        for number, weight in zip(choice, own, strict=True):
            left[start:stop] -= np.float32(weight) * models[number].values[start:stop]
    return left


def weights_of(grams: Grams, choice: Choice) -> Floats:
    """The best weights of a choice that are the same in all slots."""
    import numpy as np

    weights: Floats = solve(grams.together(), np.array([choice], np.intp)).weights[0, 0]
    return weights


def _with_one_more(beam: Iterable[Choice], grams: Grams) -> Iterator[Choice]:
    for choice in beam:
        for number in range(grams.count):
            if number not in choice:
                yield tuple(sorted((*choice, number)))


def _with_a_pair(choice: Choice, grams: Grams) -> Iterator[Choice]:
    others = [number for number in range(grams.count) if number not in choice]
    if len(others) <= _PAIRED:
        for pair in combinations(others, 2):
            yield tuple(sorted((*choice, *pair)))


def score(grams: Grams, choices: Iterable[Choice]) -> list[Found]:
    """Choices of one size, those that leave over least first."""
    import numpy as np

    listed = sorted(choices)
    solved = solve(grams, np.array(listed, np.intp))
    limits = _limits(grams, solved.choices, solved.weights)
    whole = solve(grams.together(), solved.choices)
    uniform = whole.residual[:, 0] <= limits.sum(axis=1)
    explained = np.all(solved.residual <= limits, axis=1)
    left = solved.residual.sum(axis=1)
    found = [
        Found(
            choice,
            float(left[at]),
            bool(explained[at]),
            _oddity(choice, whole.weights[at, 0], grams) + _OF_BLOCKS * (not uniform[at]),
            bool(left[at] <= _SPREAD * grams.noise.sum()),
        )
        for at, choice in enumerate(listed)
    ]
    return sorted(found, key=lambda each: each.residual)


def _limits(grams: Grams, choices: Choices, weights: Floats) -> Floats:
    """What rounding of the target, and of what it was made of, may leave over in each slot."""
    import numpy as np

    with np.errstate(over="ignore"):  # of models that hardly differ: no choice of theirs is usual
        lent = np.square(weights) * grams.noises[:, choices].swapaxes(0, 1)
    tiny = _TINY * grams.square
    limits: Floats = _SPREAD * (_GENEROUS * grams.noise + lent.sum(axis=-1)) + tiny
    return limits


def limit_of(grams: Grams, choice: Choice, weights: Floats) -> Floats:
    """The same for one choice with its weights (slots, k)."""
    import numpy as np

    limits: Floats = _limits(grams, np.array([choice], np.intp), weights[None])[0]
    return limits


def _oddity(choice: Choice, weights: Floats, grams: Grams) -> int:
    """How unusual a recipe is: 0 for a mixture, 1 for a model with a difference added, else 2."""
    of_models = [w for number, w in zip(choice, weights, strict=True) if number < grams.models]
    if all(weight >= -0.01 for weight in of_models):
        return 0
    largest = max(of_models)
    return 1 if largest <= 1.01 and sum(w < -0.01 for w in of_models) == 1 else 2


def _is_settled(leaders: dict[int, list[Found]], size: int) -> bool:
    """Whether more candidates can be expected to explain no more."""
    if size - 1 in leaders and leaders[size - 1][0].is_explained:
        return True  # one more was tried beside what explains it already
    if size < 4:
        return False
    before = leaders[size - 2][0].residual
    return leaders[size][0].residual > before * (1 - _GAIN) ** 2


def _chosen(leaders: dict[int, list[Found]], models: int) -> Outcome:
    best = _best(leaders[1])
    while (better := _better(leaders, best, models)) is not None:
        best = better
    return Outcome(best, tuple(_rivals(leaders[len(best.choice)], best)))


def _better(leaders: dict[int, list[Found]], best: Found, models: int) -> Found | None:
    """A larger choice that is worth its size, the smallest of these.

    To what is explained only adapters are added: another model that takes rounding errors away
    shares them, because one was made of the other.
    """
    gain = _GAIN_OF_ROUNDING if best.is_explained else _GAIN
    size = len(best.choice)
    for larger in sorted(leaders):
        found = leaders[larger] if larger > size else []
        if best.is_explained:
            found = [each for each in found if _has_more_adapters(each.choice, best.choice, models)]
        if found and _best(found).residual < best.residual * (1 - gain) ** (larger - size):
            return _best(found)
    return None


def _has_more_adapters(choice: Choice, other: Choice, models: int) -> bool:
    return set(choice) > set(other) and all(n >= models for n in set(choice) - set(other))


def _best(found: Sequence[Found]) -> Found:
    """The most usual of those that leave over no more than the best."""
    good = [found[0], *_as_good(found, found[0])]
    return min(good, key=lambda each: (each.oddity, each.residual))


def _rivals(found: Sequence[Found], best: Found) -> Iterator[Found]:
    for each in _as_good(found, best):
        if each.choice != best.choice and each.oddity <= best.oddity:
            yield each


def _as_good(found: Sequence[Found], best: Found) -> Iterator[Found]:
    factor = _OF_ROUNDING if best.is_explained else _NEARLY
    for each in found:
        near = each.is_plain or each.residual <= factor * best.residual
        if each.is_explained >= best.is_explained and near:
            yield each
