"""What a file is, decided by the names and shapes of its tensors alone.

A table of rows (one tuple per kind, in the module of that kind; one row per model family, in
`transformers` and `unets`) holds conditions as values. Rows
have no order: where two hold, one must say that it beats the other, else the file is unknown.
Recognised-but-incomplete files keep their kind and get `problems`; anything else is `unknown`,
with a reason.
"""

from __future__ import annotations

from dataclasses import replace
from weakref import WeakKeyDictionary

from converters.bases import BASE_OF_WIDTH, CONTEXT_WIDTH, Base, Prediction
from converters.errors import FileProblem
from converters.identify import (
    adapters,
    controls,
    denoisers,
    embeddings,
    hypernetworks,
    others,
    text_encoders,
    upscalers,
    vaes,
)
from converters.identify.counts import components
from converters.identify.identity import BROKEN, Component, Identity
from converters.identify.names import Names
from converters.identify.precision import precision_of
from converters.identify.row import Row
from converters.identify.trigger_words import with_stated_words
from converters.identify.unknown import unknown
from converters.identify.watched import Watched
from converters.kinds import Kind
from converters.layouts.pipeline import is_pipeline_state, pipeline_parts, to_single_file
from converters.statedict import StateDict
from converters.stored import StoredTensors, Structure

__all__ = [
    "BASE_OF_WIDTH",
    "CONTEXT_WIDTH",
    "ROWS",
    "Base",
    "Component",
    "Identity",
    "Kind",
    "Prediction",
    "Row",
    "claims",
    "identify",
]

ROWS: tuple[Row, ...] = (
    *denoisers.ROWS,
    *adapters.ROWS,
    *embeddings.ROWS,
    *hypernetworks.ROWS,
    *vaes.ROWS,
    *text_encoders.ROWS,
    *controls.ROWS,
    *upscalers.ROWS,
    *others.ROWS,
)


def claims(names: Names) -> tuple[Row, ...]:
    """The rows that hold for a file and are not beaten by another one that does."""
    holding = [row for row in ROWS if row.when.holds(names)]
    beaten = {name for row in holding for name in row.beats}
    return tuple(row for row in holding if row.name not in beaten)


def identify(sd: StateDict) -> Identity:
    """What the file with these tensors is. Reads no tensor data and never raises."""
    if is_pipeline_state(sd):
        return _of_pipeline(sd)
    return with_stated_words(_remembered(sd), sd.metadata)


def _remembered(sd: StateDict) -> Identity:
    """What files of one structure are is found out once for all whose metadata say the same."""
    if not isinstance(sd.tensors, StoredTensors):
        return _of_file(sd)
    answers = _ANSWERS.setdefault(sd.tensors.structure, [])
    for asked, answer in answers:
        if asked.agrees(sd.metadata):
            return answer
    watched = Watched(sd.metadata)
    identity = _of_file(replace(sd, metadata=watched))
    if watched.is_repeatable:
        answers[MOST_ANSWERS - 1 :] = []
        answers.insert(0, (watched, identity))
    return identity


_ANSWERS: WeakKeyDictionary[Structure, list[tuple[Watched, Identity]]] = WeakKeyDictionary()
MOST_ANSWERS = 8
"""Kept for one structure: as many as metadata lead to different ones."""


def _of_pipeline(sd: StateDict) -> Identity:
    """A pipeline's components: what they are in one file, else what its denoiser is."""
    parts = pipeline_parts(sd)
    said = f"a pipeline of {', '.join(parts)}; named below as in a single file"
    try:
        identity = _of_file(to_single_file(parts, sd.metadata).state)
    except FileProblem:
        largest = max(parts.values(), key=lambda part: part.parameters)
        denoiser = parts.get("transformer", largest)  # the T5 of SD3 is larger
        identity = replace(_of_file(denoiser), components=components(sd, _part_of))
    if not parts.keys() & _DENOISERS:  # half a download is no text encoder
        identity = Identity(Kind.CHECKPOINT, confidence=BROKEN, components=identity.components)
    kind = Kind.CHECKPOINT if identity.kind is Kind.DIFFUSION_MODEL else identity.kind
    return replace(identity, kind=kind, layout="diffusers", evidence=(said, *identity.evidence))


_DENOISERS = {"unet", "transformer", "prior"}


def _part_of(name: str) -> str:
    return name.partition(".")[0]


def _of_file(sd: StateDict) -> Identity:
    names = Names(sd)
    rows = claims(names)
    if len(rows) != 1:
        return unknown(sd, [row.name for row in rows])
    identity = rows[0].describe(sd)
    notes = precision_of(names, sd.metadata, identity)
    return replace(
        identity,
        evidence=(*identity.evidence, *notes.evidence),
        problems=(*identity.problems, *notes.problems),
    )
