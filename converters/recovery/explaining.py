"""From samples to an explanation: the search, the weights, and what they leave over.

How sure an explanation is, is told by what is left over. A prediction that is rounded as the target
was and gives the stored values is the strongest evidence there is; less than that is what rounding
may leave over; everything else is a share that the candidates do not explain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from converters.recovery.elimination import Choice, eliminations
from converters.recovery.explanation import Certainty, Explanation, Ingredient
from converters.recovery.kinship import ingredients_in, with_unknown
from converters.recovery.least_squares import Grams, Sampled, grams_of
from converters.recovery.rounding import BF16, FP32, steps
from converters.recovery.search import MOST_INGREDIENTS, limit_of, score, search, weights_of
from converters.recovery.weights import all_plain, by_slot, deviations, everywhere, heaviest_first

if TYPE_CHECKING:
    from numpy import floating
    from numpy.typing import NDArray

    from converters.recovery.least_squares import Floats

_SAME = 0.99
"""Share of the values that a prediction must give as they are stored to be called exact."""
_RELATED = 0.5
"""What is left over of the target's square when candidates have nothing to do with it."""
_LITTLE = 0.02
"""A share explained below this is no explanation."""
_FINER = 0.8
"""Weights for each slot are told where they leave over less than this share."""
_ALIKE = 4.0
"""The squared difference of models that are the same but for rounding, against that of rounding."""
_ARITHMETIC = 2.0**-22
"""What float32 arithmetic may be off, as a share of what is added up: it decides about ties."""
_RIVALS = 5
_NO_WEIGHT = 0.005
_MOST_TRIES = 8
"""Searches for an exact recipe among relatives, each a fraction of a second."""
_SOME, _MARGIN = 20_000, 0.01
"""Values that are looked at before all are, and how far their share may be off."""

Bounds = Mapping[str, tuple[int, int]]
"""Slot -> where its values begin and end in a sample."""


def explain(
    target: Sampled, models: Sequence[Sampled], adapters: Sequence[Sampled], bounds: Bounds
) -> Explanation:
    """Explain a target by models (numbered first) and what adapters add, all as samples.

    Without models, or where none of them is related to the target, there are no ingredients.
    """
    if not models or not target.values.size:
        return _unexplained(target)
    whole = grams_of(target, models, adapters, list(bounds.values()))
    groups = _groups(whole, models)
    kept = [*groups, *range(len(models), whole.count)]
    grams = whole.among(kept)
    outcome = search(grams)
    if outcome.best.residual > _RELATED * _square(target.values):
        return _unexplained(target)
    choice, rivals = outcome.best.choice, outcome.rivals
    sifted = _needed if outcome.best.is_explained else ingredients_in
    choice = sifted(grams, choice)
    rivals = rivals if len(choice) == len(outcome.best.choice) else ()
    everything = [*models, *adapters]
    values = [everything[number] for number in kept]
    fit = _Fit(target, values, grams, heaviest_first(grams, choice), bounds)
    found = fit.explanation(_told(grams, [rival.choice for rival in rivals]))
    if found.certainty is not Certainty.EXACT:
        found = _exact(fit) or found
    return _renumbered(replace(found, alike=_alike(grams)), kept, groups)


def _exact(fit: _Fit) -> Explanation | None:
    """An explanation by more candidates that gives the stored values, if there is one.

    What fewer leave over may pass for rounding where candidates are close relatives. A model that
    was made of the target has its very rounding errors and stays to the end, so that each of the
    models that stay is left out in turn.
    """
    seen = [frozenset[int]()]
    for without in seen:  # which grows meanwhile
        choices = eliminations(fit.grams, without)
        for choice in choices:
            if (found := _exact_of(fit, choice)) is not None:
                return found
        models = [n for n in choices[0] if n < fit.grams.models] if choices else []
        wider = (without | {number} for number in models)
        seen += [each for each in wider if each not in seen][: _MOST_TRIES - len(seen)]
    return None


def _exact_of(fit: _Fit, choice: Choice) -> Explanation | None:
    """The explanation by a choice of which every part is needed, where it is exact."""
    if len(choice) > MOST_INGREDIENTS:
        return None
    own = replace(fit, choice=heaviest_first(fit.grams, choice))
    mean = own.mean()
    if min(map(abs, mean.tolist())) < _NO_WEIGHT or not own.gives_some(mean):
        return None
    found = own.explanation(())
    return found if found.certainty is Certainty.EXACT else None


def _needed(grams: Grams, choice: Choice) -> Choice:
    """A choice that explains the target without those that have no weight in all of it.

    A model made of the target has its very rounding errors wherever nothing was changed: in these
    slots it explains what nothing else can.
    """
    weights = dict(zip(choice, weights_of(grams, choice), strict=True))
    for number in sorted(choice, key=lambda each: abs(float(weights[each]))):
        smaller = tuple(each for each in choice if each != number)
        if abs(float(weights[number])) >= _NO_WEIGHT or not smaller or smaller[0] >= grams.models:
            break
        if score(grams, {smaller})[0].is_explained:
            return _needed(grams, smaller)
    return choice


def _alike(grams: Grams) -> tuple[int, ...]:
    """The models that explain the target alone."""
    alone = score(grams, {(number,) for number in range(grams.models)})
    return tuple(found.choice[0] for found in alone if found.is_explained)


def _groups(grams: Grams, models: Sequence[Sampled]) -> dict[int, tuple[int, ...]]:
    """Models whose values differ by no more than rounding, under that with the finest grid."""
    import numpy as np

    count = grams.models
    inner = grams.products[:, :count, :count]
    own = np.diagonal(inner, axis1=1, axis2=2)
    apart = own[:, :, None] + own[:, None, :] - 2 * inner
    noise = grams.noises[:, :count]
    near = np.all(apart <= _ALIKE * (noise[:, :, None] + noise[:, None, :]), axis=0)
    telling = np.array([_fineness(model) >= BF16.mantissa for model in models])
    near &= telling[:, None] & telling  # rounded to 8 bits, a model is like many others
    groups: dict[int, tuple[int, ...]] = {}
    taken: set[int] = set()
    for number in sorted(range(count), key=lambda each: -_fineness(models[each])):
        if number not in taken:
            same = {int(each) for each in near[number].nonzero()[0]} - taken - {number}
            groups[number] = tuple(sorted(same))
            taken |= {number, *same}
    return dict(sorted(groups.items()))


def _fineness(model: Sampled) -> int:
    return model.grid.mantissa if model.grid else 0


def _square(values: NDArray[floating[Any]]) -> float:
    import numpy as np

    return float(np.square(values, dtype=np.float64).sum())


def _told(grams: Grams, choices: Sequence[Choice]) -> tuple[Mapping[int, float], ...]:
    """Other recipes, those left out in which a candidate is for nothing."""
    weights = (dict(zip(each, weights_of(grams, each), strict=True)) for each in choices)
    rounds = ({number: round(float(w), 4) for number, w in each.items()} for each in weights)
    return tuple(r for r in rounds if min(map(abs, r.values())) >= _NO_WEIGHT)[:_RIVALS]


def _renumbered(
    found: Explanation, kept: Sequence[int], groups: Mapping[int, tuple[int, ...]]
) -> Explanation:
    """The explanation with the numbers of all candidates, and with those that are the same."""
    ingredients = (
        replace(each, candidate=kept[each.candidate], same=groups.get(kept[each.candidate], ()))
        for each in found.ingredients
    )
    rivals = ({kept[number]: w for number, w in rival.items()} for rival in found.rivals)
    alike = [each for number in found.alike for each in (kept[number], *groups[kept[number]])]
    return replace(found, ingredients=tuple(ingredients), rivals=tuple(rivals), alike=tuple(alike))


def _unexplained(target: Sampled) -> Explanation:
    count = target.values.size
    size = math.sqrt(_square(target.values) / max(1, count))
    precision = _precision(target)
    return Explanation(Certainty.NONE, (), 0.0, size, 0.0, size, math.inf, 0.0, count, precision)


def _precision(target: Sampled) -> str:
    return target.grid.label if target.grid else FP32.label


@dataclass(frozen=True, slots=True)
class _Fit:
    """A choice of candidates, the heaviest first, on its way to an explanation."""

    target: Sampled
    candidates: Sequence[Sampled]
    grams: Grams
    choice: Choice
    bounds: Bounds

    def explanation(self, rivals: tuple[Mapping[int, float], ...]) -> Explanation:
        """The weights, everywhere or by slot, and what they leave over."""
        import numpy as np

        mean = self.mean()
        weights = np.stack([mean] * len(self.bounds))
        if len(self.bounds) > 1 and not self._holds(weights):
            own = np.stack(list(by_slot(self.grams, self.choice, mean)))
            if self._errors(own).sum() < _FINER * self._errors(weights).sum():
                weights = own
        ingredients = self._ingredients(weights, mean)
        return self._with_unknown(self._judged(weights, ingredients, rivals))

    def mean(self) -> Floats:
        """The weights that are the same everywhere; plain ones, where these give the values."""
        found = everywhere(self.grams, self.choice)
        if self.gives_some(found):
            return found
        return next(filter(self.gives_some, all_plain(self.grams, self.choice)), found)

    def gives_some(self, weights: Floats) -> bool:
        """Whether weights give some of the stored values, as those of an exact recipe give all."""
        some = slice(None, None, max(1, self.target.values.size // _SOME))
        few = replace(
            self,
            target=replace(self.target, values=self.target.values[some]),
            candidates=[replace(each, values=each.values[some]) for each in self.candidates],
            bounds={"": (0, len(self.target.values[some]))},
        )
        return few.equal(weights[None]) >= _SAME - _MARGIN

    def _ingredients(self, weights: Floats, mean: Floats) -> tuple[Ingredient, ...]:
        differs = bool((weights != mean).any())
        spread = deviations(self.grams, self.choice)
        return tuple(
            Ingredient(
                number,
                float(mean[position]),
                float(spread[position]),
                self._blocks(weights[:, position]) if differs else {},
            )
            for position, number in enumerate(self.choice)
        )

    def _blocks(self, weights: Floats) -> dict[str, float]:
        return {slot: float(w) for slot, w in zip(self.bounds, weights, strict=True)}

    def _judged(
        self,
        weights: Floats,
        ingredients: tuple[Ingredient, ...],
        rivals: tuple[Mapping[int, float], ...],
    ) -> Explanation:
        count, noise = self.target.values.size, float(self.grams.noise.sum())
        errors, holds = self._errors(weights), self._holds(weights)
        left = float(errors.sum())
        change = _square(self.target.values - self.candidates[ingredients[0].candidate].values)
        explained = None
        if change > noise and not (holds and len(ingredients) == 1):
            explained = min(1.0, max(0.0, 1 - max(0.0, left - noise) / (change - noise)))
        found = Explanation(
            certainty=Certainty.NONE,
            ingredients=ingredients,
            explained=explained,
            residual=math.sqrt(left / count),
            rounding=math.sqrt(noise / count),
            change=math.sqrt(change / count),
            excess=self._excess(errors),
            equal=self.equal(weights),
            values=count,
            precision=_precision(self.target),
            rivals=rivals,
        )
        return replace(found, certainty=_certainty(found, holds=holds))

    def _excess(self, errors: Floats) -> float:
        import numpy as np

        ratios = errors / np.maximum(self.grams.noise, np.finfo(np.float64).tiny)
        return float(ratios.max())

    def equal(self, weights: Floats) -> float:
        """The share of the values that the recipe gives, in float32 arithmetic of any order."""
        import numpy as np

        grid = self.target.grid or FP32
        reach = steps(self.target.values, grid) / 2
        reach += _ARITHMETIC * self._combined(np.abs(weights), sizes=True)
        off = np.abs(self._combined(weights) - self.target.values)
        return float((off <= reach).mean())

    def _with_unknown(self, found: Explanation) -> Explanation:
        """The explanation with the weight of what is none of the candidates, if there is some."""
        if found.certainty in (Certainty.EXACT, Certainty.ROUNDING):
            return found
        weights = with_unknown(self.grams, self.choice)
        if not weights:
            return found
        ingredients = tuple(
            replace(each, weight=round(weight, 3), blocks={})
            for each, weight in zip(found.ingredients, weights, strict=False)
        )
        return replace(found, ingredients=ingredients, unknown=round(weights[-1], 3))

    def _combined(self, weights: Floats, *, sizes: bool = False) -> Floats:
        """The weighted sum of the candidates, or of the sizes of their values."""
        import numpy as np

        made = np.zeros(self.target.values.size, np.float64)
        for (start, stop), own in zip(self.bounds.values(), weights, strict=True):
            for number, weight in zip(self.choice, own, strict=True):
                values = self.candidates[number].values[start:stop]
                made[start:stop] += weight * (np.abs(values) if sizes else values)
        return made

    def _errors(self, weights: Floats) -> Floats:
        """The squares left over in each slot."""
        import numpy as np

        error = np.square(self.target.values - self._combined(weights))
        return np.array([error[start:stop].sum() for start, stop in self.bounds.values()])

    def _holds(self, weights: Floats) -> bool:
        """Whether no slot has more left over than rounding."""
        return bool((self._errors(weights) <= limit_of(self.grams, self.choice, weights)).all())


def _certainty(found: Explanation, *, holds: bool) -> Certainty:
    if holds:
        return Certainty.EXACT if found.equal >= _SAME else Certainty.ROUNDING
    explains = found.explained is not None and found.explained >= _LITTLE
    return Certainty.PARTIAL if explains and len(found.ingredients) > 1 else Certainty.NONE
