"""What to say when a query matched nothing: a word that the library does not know, or a path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from assetmgr.text import plain

if TYPE_CHECKING:
    from registry.library import Library

_WORDS = ("kind", "base")
"""The filters whose values are words of ours, which people guess: `sd15`, `loras`."""


def reasons(library: Library, query: str) -> Iterator[str]:
    """Why a query may have matched nothing, with what would; nothing where that is plain."""
    from registry.query import terms
    from registry.query.parser import parse

    facets = library.facets()
    for term in parse(query).terms:
        if isinstance(term, terms.Is) and term.column in _WORDS:
            there = facets[term.column]
            if there and term.value not in there:
                others = ", ".join(sorted(there))
                yield f"of {term.column}:{plain(term.value)} there is nothing, but of {others}"
        elif isinstance(term, terms.Words):
            shown = plain(term.text)
            quoted = f'"{shown}"' if " " in shown else shown
            yield f"words are not looked for in paths; path:{quoted} finds files and folders"
