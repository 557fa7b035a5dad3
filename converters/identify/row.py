"""One row of the identification table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from converters.identify.conditions import Condition
from converters.identify.identity import Identity
from converters.statedict import StateDict


@dataclass(frozen=True, slots=True)
class Row:
    """When a file belongs to this row, and what it then is.

    Rows have no order. Where two can hold for one file, one of them names the other in `beats`.
    """

    name: str
    when: Condition
    describe: Callable[[StateDict], Identity]
    beats: frozenset[str] = frozenset()
