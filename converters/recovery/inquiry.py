"""An inquiry into one checkpoint: which candidates are looked at, and how closely.

Many candidates are first compared on a coarse sample, the few that may matter on a fine one.
Adapters are only looked at where models leave something over; of many those that go along with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.layouts.components import UNET
from converters.recovery.explaining import explain
from converters.recovery.explanation import Explanation
from converters.recovery.least_squares import Sampled, grams_of
from converters.recovery.parts import slots_of
from converters.recovery.readings import Readings, Source
from converters.recovery.sampling import Sample, choose_sample, lacking
from converters.recovery.search import residual_of, shortlist

if TYPE_CHECKING:
    from converters.recovery.sampling import Values

VALUES: Mapping[str, int] = {UNET: 1_200_000}
"""How many values of a component are compared: 2.4 MB in half precision."""
_OTHERS = 250_000
_COARSE = 6
"""The coarse sample has every so many-th weight."""
FEW = 24
"""So many candidates of a kind are compared on the fine sample."""
_LACKING = 0.1
"""Share of the weights that a candidate may have in other shapes."""
_ONLY_ROUNDING = 1.3
"""Squares left over, against those of rounding, in which no adapter is looked for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The explanation of a component, whose candidates are `sources`."""

    explanation: Explanation
    sources: tuple[Source, ...]

    @property
    def wants_adapters(self) -> bool:
        """Whether something is left over that adapters may explain."""
        found = self.explanation
        return bool(found.ingredients) and found.excess > _ONLY_ROUNDING


def ask(readings: Readings, component: str, without: frozenset[int] = frozenset()) -> Answer:
    """What a component was made of; models in `without` are left out of account.

    Raises FileProblem for the checkpoint, MergeProblem where it holds values that are not finite.
    """
    sources = [each for each in readings.having(component) if each.number not in without]
    sample = _sample(readings, component, sources)
    sources = [s for s in sources if s not in readings.left_out and sample.runs]
    target = readings.target(component, sample)
    if len(sources) > FEW:
        sources = _nearest(readings, component, sources, sample.thinned(_COARSE))
    models = readings.of_models(sources, sample)
    adapters = _adapters(readings, component, list(models), sample)
    everything = {**models, **adapters}
    found = explain(target, list(models.values()), list(adapters.values()), sample.bounds)
    return Answer(found, tuple(everything))


def _sample(readings: Readings, component: str, sources: Sequence[Source]) -> Sample:
    """The rows of all weights that every model has which has nearly all of them."""
    part = readings.parts[component]
    sample = choose_sample(part, slots_of(component, part), VALUES.get(component, _OTHERS))
    other: frozenset[str] = frozenset()
    for source in sources:
        lacks = lacking(readings.part(source), sample)
        if len(lacks) > _LACKING * len(sample.runs):
            readings.left_out[source] = f"its {source.part} has other tensors or shapes"
        else:
            other |= lacks
    return sample.without(other)


def _nearest(
    readings: Readings, component: str, sources: Sequence[Source], coarse: Sample
) -> list[Source]:
    """The models that may matter, by a coarse sample."""
    models = readings.of_models(sources, coarse)
    target = readings.target(component, coarse)
    grams = grams_of(target, list(models.values()), (), list(coarse.bounds.values()))
    listed = list(models)
    return [listed[number] for number in sorted(shortlist(grams, FEW))]


def _adapters(
    readings: Readings, component: str, models: Sequence[Source], sample: Sample
) -> dict[Source, Sampled]:
    """What the adapters add; of many, those that go along with what the models leave over."""
    numbers = list(readings.changes)
    if len(numbers) > FEW and models:
        coarse = sample.thinned(_COARSE)
        target = readings.target(component, coarse)
        bounds = list(coarse.bounds.values())
        left = residual_of(target, list(readings.of_models(models, coarse).values()), bounds)
        deltas = readings.of_adapters(component, numbers, coarse)
        ranked = sorted(deltas, key=lambda s: _along(left, deltas[s].values, bounds), reverse=True)
        numbers = [source.number for source in ranked[:FEW]]
    return readings.of_adapters(component, numbers, sample)


def _along(left: Values, delta: Values, bounds: Sequence[tuple[int, int]]) -> float:
    """How much of the squares that are left over a change takes away, each slot by itself."""
    taken = 0.0
    for start, stop in bounds:
        square = float(delta[start:stop] @ delta[start:stop])
        if square:
            taken += float(left[start:stop] @ delta[start:stop]) ** 2 / square
    return taken
