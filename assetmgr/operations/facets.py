"""How many assets of a search have each value of base, algorithm, tag and the like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace


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


_ASKED = ("base", "algorithm", "tag", "folder", "verdict", "safety")
"""The facets in their order; all but the folder are filters of the query language."""


def facets(workspace: Workspace, query: str = "", progress: Progress = SILENT) -> tuple[Facet, ...]:
    """The facets of the assets that a query finds. Raises BadValue, and Cancelled."""
    counted = workspace.library.facets(query, progress)
    progress.advance()
    folders = tuple(_folders(workspace, query, progress))
    return tuple(
        Facet(name, folders if name == "folder" else _values(name, counted[name]))
        for name in _ASKED
    )


def _values(name: str, counted: Mapping[str, int]) -> tuple[FacetValue, ...]:
    return tuple(FacetValue(value, count, term_of(name, value)) for value, count in counted.items())


def _folders(workspace: Workspace, query: str, progress: Progress) -> Iterator[FacetValue]:
    """The folders of the library; how much of the search lies in each."""
    for root in workspace.library.roots():
        term = term_of("path", root)
        count = workspace.library.number(f"{query} {term}", progress)
        if count:
            yield FacetValue(root, count, term)


def term_of(name: str, value: str) -> str:
    """A filter with its value, in quotes where it needs them.

    >>> term_of("tag", "line art"), term_of("base", "sdxl")
    ('tag:"line art"', 'base:sdxl')
    """
    quoted = not value or any(character.isspace() for character in value)
    return f'{name}:"{value}"' if quoted else f"{name}:{value}"
