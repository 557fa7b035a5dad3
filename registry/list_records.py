"""What lists show of assets, apart from all else that is known of them: lists are there at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class AssetRow:
    """What a list shows of an asset; `verdict` and `thumbnail` are those of its preview."""

    id: int
    name: str
    kind: str
    base: str
    variant: str | None
    algorithm: tuple[str, ...]
    container: str | None
    bytes: int
    rating: int | None
    tags: tuple[str, ...]
    state: str
    verdict: str | None
    thumbnail: str | None
    safety: str
    added: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a search result and how many assets the whole of it has."""

    total: int
    rows: tuple[AssetRow, ...]


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first rows of a search result; its `total` is None as long as nobody has counted it."""

    total: int | None
    rows: tuple[AssetRow, ...]
