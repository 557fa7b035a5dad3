"""How many assets there are of each kind, base, safety, verdict, algorithm and tag.

Of the whole library the database keeps count itself; what a query finds is counted.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, select

from registry import alike, brief, schema
from registry.query import All
from registry.query.terms import NO_VERDICT

FACETS = ("kind", "base", "safety", "verdict", "algorithm", "tag")

_facet = schema.facet.c


def count(connection: Connection, query: All) -> dict[str, dict[str, int]]:
    """Facet -> value -> number of assets, the greatest first."""
    if query.terms:
        groups, tags = brief.groups(connection, query, *FACETS[:5])
    else:
        groups, tags = list(alike.groups(connection, query, *FACETS[:5])), _tags(connection)
    found: dict[str, Counter[str]] = {name: Counter() for name in FACETS}
    for group in groups:
        for name, value, number in _values(*group):
            found[name][value] += number
    found["tag"] = tags
    return {name: _sorted(values) for name, values in found.items()}


def _sorted(values: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(values.items(), key=lambda pair: (-pair[1], pair[0])))


def _values(*group: Any) -> Iterator[tuple[str, str, int]]:
    *words, algorithms, number = group
    for name, word in zip(FACETS, words, strict=False):
        yield name, NO_VERDICT if word is None else word, number
    for algorithm in _distinct(algorithms):
        yield "algorithm", algorithm, number


@functools.lru_cache(1024)
def _distinct(algorithms: str) -> frozenset[str]:
    return frozenset(json.loads(algorithms))


def _tags(connection: Connection) -> Counter[str]:
    kept = select(_facet.value, _facet.number).where(_facet.name == "tag", _facet.number > 0)
    return Counter(dict(map(tuple, connection.execute(kept))))
