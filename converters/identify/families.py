"""A model family as a row: the keys and shapes that tell its denoiser, and what it then is.

To add a family, add a word to `converters.bases.Base`, a row to `transformers.TRANSFORMERS` (or
`transformers_diffusers`, `unets`) and a fixture of names and shapes to the tests.
"""

from __future__ import annotations

from dataclasses import dataclass

from converters.bases import Base, Prediction
from converters.identify.conditions import ALWAYS, Condition, both, has_all

Variants = tuple[tuple[str, Condition], ...]
"""Variant word and when it applies; the first that holds counts."""


@dataclass(frozen=True, slots=True)
class Family:
    """A row of the table of families.

    `keys` are exact names of the denoiser without its prefix, all present and named as evidence;
    `when` is what else must hold of it. Rows have no order: `beats` names those that may hold too.
    """

    name: str
    base: Base
    keys: tuple[str, ...] = ()
    when: Condition = ALWAYS
    variants: Variants = ()
    prediction: Prediction = Prediction.FLOW
    layout: str = "original"
    beats: frozenset[str] = frozenset()

    @property
    def condition(self) -> Condition:
        """When a denoiser, named without its prefix, is of this family."""
        return both(has_all(*self.keys), self.when)
