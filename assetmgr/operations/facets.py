"""How many assets of a search have each value of base, algorithm, tag and the like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import AssetRow

BATCH = 1000
"""Rows read at once: between two batches a count that nobody waits for any more ends."""


@dataclass(frozen=True, slots=True)
class FacetValue:
    """A value, how many assets of the search have it, and the term that finds them."""

    value: str
    count: int
    term: str


@dataclass(frozen=True, slots=True)
class Facet:
    """One question with its answers, the most frequent first."""

    name: str
    values: tuple[FacetValue, ...]


_OF_ROW: dict[str, Callable[[AssetRow], Iterable[str]]] = {
    "base": lambda row: (row.base,),
    "algorithm": lambda row: row.algorithm,
    "tag": lambda row: row.tags,
    "verdict": lambda row: (row.verdict or "none",),
    "safety": lambda row: (row.safety,),
}
"""The filter of the query language -> what a row answers."""


def facets(workspace: Workspace, query: str = "", progress: Progress = SILENT) -> tuple[Facet, ...]:
    """The facets of the assets that a query finds. Raises BadValue, and Cancelled."""
    counters: dict[str, Counter[str]] = {name: Counter() for name in _OF_ROW}
    for row in _rows(workspace, query, progress):
        for name, answers in _OF_ROW.items():
            counters[name].update(answers(row))
    found = [Facet(name, _values(name, counter)) for name, counter in counters.items()]
    found.insert(3, Facet("folder", tuple(_folders(workspace, query))))
    return tuple(found)


def _rows(workspace: Workspace, query: str, progress: Progress) -> Iterator[AssetRow]:
    offset = 0
    while True:
        page = workspace.library.search(query, sort="id", limit=BATCH, offset=offset)
        yield from page.rows
        progress.advance(len(page.rows))
        offset += BATCH
        if offset >= page.total:
            return


def _values(name: str, counter: Counter[str]) -> tuple[FacetValue, ...]:
    ordered = sorted(counter.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(FacetValue(value, count, term_of(name, value)) for value, count in ordered)


def _folders(workspace: Workspace, query: str) -> Iterator[FacetValue]:
    """The folders of the library; how much of the search lies in each."""
    for root in workspace.library.roots():
        term = term_of("path", root)
        count = workspace.library.search(f"{query} {term}", limit=1).total
        if count:
            yield FacetValue(root, count, term)


def term_of(name: str, value: str) -> str:
    """A filter with its value, in quotes where it needs them.

    >>> term_of("tag", "line art"), term_of("base", "sdxl")
    ('tag:"line art"', 'base:sdxl')
    """
    quoted = not value or any(character.isspace() for character in value)
    return f'{name}:"{value}"' if quoted else f"{name}:{value}"
