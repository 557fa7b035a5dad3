"""The answer of identification, in the words of the command-line contract."""

from __future__ import annotations

from dataclasses import dataclass

from converters.bases import Base, Prediction
from converters.kinds import Kind


@dataclass(frozen=True, slots=True)
class Component:
    """A part of the file (`unet`, `vae`, `text_encoder`, `unet_ema`, `other`) and its size."""

    name: str
    tensors: int
    parameters: int


CERTAIN = 1.0
"""Names and shapes leave no other reading."""

BROKEN = 0.9
"""Recognised, but parts are missing."""

SHARED = 0.6
"""The most usual of several families that share these names and shapes."""

NONE = 0.0
"""Not recognised."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a file is, how sure that is, and why.

    `confidence` (0..1) is about what is claimed: the kind, and the base unless that is unknown.
    `evidence` are short sentences naming the tensors that decided; `problems` say what is missing
    or wrong in a file that was recognised nevertheless. `rank` is that of most modules of an
    adapter.
    """

    kind: Kind
    base: Base = Base.UNKNOWN
    variant: str | None = None
    prediction: Prediction = Prediction.UNKNOWN
    layout: str | None = None
    algorithm: tuple[str, ...] = ()
    rank: int | None = None
    confidence: float = CERTAIN
    evidence: tuple[str, ...] = ()
    components: tuple[Component, ...] = ()
    trigger_words: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
