"""What a file is, decided by the names and shapes of its tensors alone.

A table of rows (one tuple per kind, in the module of that kind; one row per model family, in
`transformers` and `unets`) holds conditions as values. Rows
have no order: where two hold, one must say that it beats the other, else the file is unknown.
Recognised-but-incomplete files keep their kind and get `problems`; anything else is `unknown`,
with a reason.
"""

from __future__ import annotations

from dataclasses import replace

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
from converters.identify.identity import (
    BASE_OF_WIDTH,
    CONTEXT_WIDTH,
    Base,
    Component,
    Identity,
    Kind,
    Prediction,
)
from converters.identify.names import Names
from converters.identify.precision import precision_of
from converters.identify.row import Row
from converters.identify.unknown import unknown
from converters.statedict import StateDict

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


def claims(sd: StateDict) -> tuple[Row, ...]:
    """The rows that hold for a file and are not beaten by another one that does."""
    names = Names(sd)
    holding = [row for row in ROWS if row.when.holds(names)]
    beaten = {name for row in holding for name in row.beats}
    return tuple(row for row in holding if row.name not in beaten)


def identify(sd: StateDict) -> Identity:
    """What the file with these tensors is. Reads no tensor data and never raises."""
    rows = claims(sd)
    if len(rows) != 1:
        return unknown(sd, [row.name for row in rows])
    identity = rows[0].describe(sd)
    notes = precision_of(sd, identity)
    return replace(
        identity,
        evidence=(*identity.evidence, *notes.evidence),
        problems=(*identity.problems, *notes.problems),
    )
