"""One set of models for all components of a checkpoint, where that explains them as well.

Who merged took the same models everywhere. A merge that lies in the library too holds several of
them, and may explain one component as well as these do: taken alone, each component would be told
of other models, and no recipe would come of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from converters.recovery.explanation import Certainty
from converters.recovery.inquiry import Answer, ask
from converters.recovery.readings import Readings

Answers = dict[str, Answer]
"""By component."""


def agreed(readings: Readings, answers: Answers, copies: frozenset[int] = frozenset()) -> Answers:
    """The answers, or such as are as good and of fewer models in all.

    Models in `copies` are left out of account. Raises as `ask` does.
    """
    everything = frozenset(range(len(readings.models)))
    for models in sorted(_choices(answers), key=lambda own: (len(own), sorted(own))):
        if all(_serve(models, answer) for answer in answers.values()):
            return answers
        without = (everything - models) | copies
        tried = {name: ask(readings, name, without) for name in answers}
        if all(_is_as_good(tried[name], answer) for name, answer in answers.items()):
            return tried
    return answers


def _choices(answers: Mapping[str, Answer]) -> set[frozenset[int]]:
    """The models, by number, of every recipe of several that explains a component."""
    recipes = (
        _models(answer, recipe)
        for answer in answers.values()
        for recipe in (_ingredients(answer), *answer.explanation.rivals)
    )
    return {models for models in recipes if len(models) > 1}


def _ingredients(answer: Answer) -> list[int]:
    return [each.candidate for each in answer.explanation.ingredients]


def _models(answer: Answer, recipe: Iterable[int]) -> frozenset[int]:
    sources = (answer.sources[each] for each in recipe)
    return frozenset(source.number for source in sources if not source.is_adapter)


def _serve(models: frozenset[int], answer: Answer) -> bool:
    """Whether an answer has no models but these, or their equals."""
    groups = (
        _models(answer, (each.candidate, *each.same)) for each in answer.explanation.ingredients
    )
    return all(group & models for group in groups if group)


def _is_as_good(answer: Answer, before: Answer) -> bool:
    """Whether an answer is no less certain, and of no more ingredients."""
    order, found, other = list(Certainty), answer.explanation, before.explanation
    sure = order.index(found.certainty) <= order.index(other.certainty)
    return sure and len(found.ingredients) <= len(other.ingredients)
