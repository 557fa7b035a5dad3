"""Say which models and adapters of the library a checkpoint was merged of, with which weights."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.assetref import find_file
from assetmgr.operations.explain.candidates import (
    MODELS,
    Candidate,
    LeftOut,
    Opened,
    Subject,
    find_candidates,
    open_candidates,
)
from converters.bases import Base
from converters.containers import open_model
from converters.errors import AssetmgrError, AssetNotFound, NotAvailable, WrongFamily
from converters.identify import identify
from converters.layouts.components import UNET
from converters.progress import SILENT, Progress
from converters.recovery.agreement import agreed
from converters.recovery.explanation import Certainty, Explanation
from converters.recovery.inquiry import Answer, ask
from converters.recovery.parts import explained_parts, parts_of
from converters.recovery.readings import Readings, Source

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset

_WHOLE = (Certainty.EXACT, Certainty.ROUNDING)


class Unexplained(AssetmgrError):
    """No candidates explain a checkpoint."""

    code = "unexplained"


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """A checkpoint, the query for candidates (None: its family), and files that are no asset."""

    checkpoint: str
    among: str | None = None
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ingredient:
    """A candidate in a component, with its weight; `blocks` as in the explanation.

    `component` is its part that was used: the averages of a UNet are `unet_ema`. `same` are
    candidates that hold the same.
    """

    candidate: Candidate
    component: str
    weight: float
    deviation: float
    blocks: Mapping[str, float]
    same: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """What a component was made of.

    `identical` is whether its digest is that of the one ingredient's. `rivals` are other recipes
    that explain as much.
    """

    name: str
    explanation: Explanation
    ingredients: tuple[Ingredient, ...]
    identical: bool = False
    rivals: tuple[tuple[tuple[Candidate, float], ...], ...] = ()

    @property
    def is_explained(self) -> bool:
        """Whether nothing but rounding is left over."""
        return self.explanation.certainty in _WHOLE

    @property
    def is_told(self) -> bool:
        """Whether anything is known of what it was made of."""
        return self.explanation.certainty is not Certainty.NONE


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a checkpoint was made of.

    `copies` are candidates that hold the same weights in all components; they are no ingredients.
    `models` and `adapters` count what it was compared with, `nbytes` what was read of these.
    """

    subject: Subject
    parts: tuple[Part, ...]
    copies: tuple[Candidate, ...]
    models: int
    adapters: int
    left_out: tuple[LeftOut, ...]
    nbytes: int
    seconds: float

    @property
    def certainty(self) -> Certainty:
        """That of the component of which least is certain."""
        order = list(Certainty)
        return max((part.explanation.certainty for part in self.parts), key=order.index)

    @property
    def is_told(self) -> bool:
        """Whether anything is known of what its denoiser, or all that it has, was made of."""
        main = [part for part in self.parts if part.name == UNET] or self.parts
        return bool(self.copies) or any(part.is_told for part in main)


def explain_checkpoint(
    workspace: Workspace, request: ExplainRequest, progress: Progress = SILENT
) -> Recovery:
    """Compare a checkpoint with its candidates. Nothing is recorded.

    Raises WrongFamily for what is no checkpoint, NotAvailable without candidates, BadValue for a
    query that is none, MergeProblem for a checkpoint with NaN or infinities, FileProblem.
    """
    started = time.perf_counter()
    subject = _subject(workspace, request.checkpoint)
    candidates = find_candidates(workspace, subject, request.among, request.files)
    copies = [each for each in candidates if _is_copy(workspace, each, subject)]
    models = [each for each in candidates if not each.is_adapter and each not in copies]
    opened = open_candidates(models, subject.identity.base, progress)
    adapters = [each for each in candidates if each.is_adapter]
    if not opened.models and not copies:
        raise NotAvailable(
            f"there is no other {subject.identity.base.label} model to compare with",
            path=subject.path,
            hint="scan the folders that have some, or name files with --with",
        )
    search = _Search(workspace, subject, opened, adapters, progress)
    parts, found = search.parts()
    return Recovery(
        subject,
        parts,
        (*copies, *found),
        len(opened.models),
        len(search.adapters),
        search.left_out(),
        search.readings.nbytes,
        time.perf_counter() - started,
    )


def candidates_of(workspace: Workspace, request: ExplainRequest) -> list[Candidate]:
    """What a checkpoint would be compared with, by its header. Raises as `explain_checkpoint`."""
    subject = _subject(workspace, request.checkpoint)
    return find_candidates(workspace, subject, request.among, request.files)


def _subject(workspace: Workspace, reference: str) -> Subject:
    path = find_file(workspace, reference)
    state = open_model(path).state_dict
    identity = identify(state)
    if identity.kind not in MODELS:
        raise WrongFamily(f"is of kind {identity.kind}, not a checkpoint", path=path)
    if identity.base is Base.UNKNOWN:
        raise WrongFamily("is of a family that cannot be told", path=path)
    return Subject(path, state, identity, parts_of(state, identity.kind), _asset(workspace, path))


def _asset(workspace: Workspace, path: Path) -> Asset | None:
    try:
        return workspace.library.find(str(path.resolve()))
    except AssetNotFound:
        return None


def _is_copy(workspace: Workspace, candidate: Candidate, subject: Subject) -> bool:
    """Whether the library knows that a candidate has the very tensors of the checkpoint."""
    if candidate.asset is None or subject.asset is None:
        return False
    weights = subject.asset.hashes.get("weights")
    theirs = workspace.library.get(candidate.asset).hashes.get("weights")
    return weights is not None and weights == theirs


@dataclass(slots=True)
class _Search:
    """The components of a checkpoint, one after the other."""

    workspace: Workspace
    subject: Subject
    opened: Opened
    waiting: Sequence[Candidate]
    progress: Progress
    adapters: tuple[Candidate, ...] = ()
    readings: Readings = field(init=False)
    more_left_out: tuple[LeftOut, ...] = ()

    def __post_init__(self) -> None:
        self.readings = Readings(self.subject.parts, self.opened.parts, self.progress)

    def parts(self) -> tuple[tuple[Part, ...], tuple[Candidate, ...]]:
        """What each component was made of, and the copies of the whole among the candidates."""
        known = self._known()
        names = [name for name in explained_parts(self.subject.parts) if name not in known]
        answers = self._asked(names, frozenset())
        copies = _copies(answers) if not known else ()
        if copies:
            others = self._asked(names, frozenset(copies))
            if all(answer.explanation.certainty in _WHOLE for answer in others.values()):
                answers = others
        answers = agreed(self.readings, answers, frozenset(copies))
        found = {**known, **{name: self._part(name, answers[name]) for name in names}}
        parts = [found[name] for name in explained_parts(self.subject.parts)]
        return _agreeing(parts), tuple(self.opened.models[number] for number in copies)

    def _asked(self, names: Sequence[str], without: frozenset[int]) -> dict[str, Answer]:
        """The answers for components; adapters are opened when something is left over for them."""
        answers = {name: ask(self.readings, name, without) for name in names}
        wanting = [name for name, answer in answers.items() if answer.wants_adapters]
        if wanting and (self.waiting or self.opened.adapters) and not self.readings.changes:
            self._open_adapters()
            answers |= {name: ask(self.readings, name, without) for name in wanting}
        return answers

    def _known(self) -> dict[str, Part]:
        """The components whose digest is that of a candidate's."""
        if self.subject.asset is None:
            return {}
        by_asset = {each.asset: each for each in self.opened.models}
        sharers = self.workspace.library.sharers(self.subject.asset.id)
        found: dict[str, Part] = {}
        for name in explained_parts(self.subject.parts):
            same = [by_asset[each.id] for each in sharers.get(name, ()) if each.id in by_asset]
            if same:
                ingredient = Ingredient(same[0], name, 1.0, 0.0, {}, tuple(same[1:]))
                found[name] = Part(name, _IDENTICAL, (ingredient,), identical=True)
        return found

    def _open_adapters(self) -> None:
        """Those of the library, and those among the files that were named."""
        opened = open_candidates(self.waiting, self.subject.identity.base, self.progress)
        self.adapters = (*self.opened.adapters, *opened.adapters)
        self.more_left_out = opened.left_out
        self.readings.look_at((*self.opened.states, *opened.states))

    def _part(self, name: str, answer: Answer) -> Part:
        sources = answer.sources
        ingredients = tuple(
            Ingredient(
                self._candidate(sources[each.candidate]),
                sources[each.candidate].part,
                each.weight,
                each.deviation,
                each.blocks,
                tuple(self._candidate(sources[number]) for number in each.same),
            )
            for each in answer.explanation.ingredients
        )
        rivals = tuple(
            tuple((self._candidate(sources[number]), weight) for number, weight in rival.items())
            for rival in answer.explanation.rivals
        )
        return Part(name, answer.explanation, ingredients, rivals=rivals)

    def _candidate(self, source: Source) -> Candidate:
        return (self.adapters if source.is_adapter else self.opened.models)[source.number]

    def left_out(self) -> tuple[LeftOut, ...]:
        """What could not be compared. A file that is one component has no other to compare."""
        mine = (
            LeftOut(self._candidate(source), reason)
            for source, reason in sorted(self.readings.left_out.items())
            if source.is_adapter or self._candidate(source).kind in MODELS
        )
        every = (*self.opened.left_out, *self.more_left_out, *mine)
        return tuple({each.candidate: each for each in every}.values())


def _agreeing(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The components with the same names for the same models, as far as that can be."""
    used = [i.candidate for part in parts for i in part.ingredients if not i.same]
    used += [i.candidate for part in parts for i in part.ingredients if len(part.ingredients) > 1]
    return tuple(
        replace(part, ingredients=tuple(_named(each, used) for each in part.ingredients))
        for part in parts
    )


def _named(ingredient: Ingredient, used: Sequence[Candidate]) -> Ingredient:
    """The ingredient, called by that of its equals which is used elsewhere too."""
    equals = (ingredient.candidate, *ingredient.same)
    first = next((each for each in used if each in equals), ingredient.candidate)
    same = tuple(each for each in equals if each != first)
    return replace(ingredient, candidate=first, same=same)


_IDENTICAL = Explanation(Certainty.EXACT, (), None, 0.0, 0.0, 0.0, 0.0, 1.0, 0, "")
"""Of a component whose digest tells; nothing was read of it."""


def _copies(answers: Mapping[str, Answer]) -> tuple[int, ...]:
    """The models that differ from the checkpoint by no more than rounding, the nearest first."""
    alike = [
        dict.fromkeys(answer.sources[each].number for each in answer.explanation.alike)
        for answer in answers.values()
    ]
    return tuple(each for each in alike[0] if all(each in own for own in alike)) if alike else ()
