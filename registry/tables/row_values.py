"""From the columns of a row to what lists show; imports nothing of the database."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from registry.list_records import AssetRow
from registry.text import BETWEEN

FIELDS = tuple(field.name for field in fields(AssetRow))
"""The columns, in their order."""
_ALGORITHM, _TAGS, _ADDED = map(FIELDS.index, ("algorithm", "tags", "added"))


def row_of(values: Sequence[Any]) -> AssetRow:
    """A row of a list; tags come as one text, algorithms as JSON."""
    told = list(values)
    told[_ALGORITHM] = _words(told[_ALGORITHM])
    told[_TAGS] = tuple(sorted(told[_TAGS].split(BETWEEN))) if told[_TAGS] else ()
    told[_ADDED] = moment(told[_ADDED])
    return AssetRow(*told)


def moment(stored: datetime) -> datetime:
    """A time as records have it: the database keeps UTC without saying so."""
    return stored.replace(tzinfo=UTC)


@functools.lru_cache(1024)
def _words(listed: str) -> tuple[str, ...]:
    """A list in JSON: there are few that differ."""
    return tuple(json.loads(listed))
