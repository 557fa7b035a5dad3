"""How many assets there are of each kind, base, safety, verdict, algorithm and tag.

Of the whole library the database keeps count itself; what a query finds is counted.
"""

from __future__ import annotations

import functools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, select

from registry.query import All
from registry.query.terms import NO_VERDICT
from registry.searching import alike, brief
from registry.tables import schema

FACETS = ("kind", "base", "safety", "verdict", "algorithm", "tag")

_facet = schema.facet.c


def count(connection: Connection, query: All) -> dict[str, dict[str, int]]:
    """Facet -> value -> number of assets, the greatest first."""
    if query.terms:
        groups, tags = brief.groups(connection, query, *FACETS[:5])
    else:
        groups, tags = list(alike.groups(connection, query, *FACETS[:5])), _tags(connection)
    *columns, algorithms, numbers = zip(*groups, strict=True) if groups else [()] * 6
    found = {name: _added(values, numbers) for name, values in zip(FACETS, columns, strict=False)}
    found["algorithm"] = _added_each(map(_distinct, algorithms), numbers)
    found["tag"] = tags
    return {name: _sorted(values) for name, values in found.items()}


def _sorted(values: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(values.items(), key=lambda pair: (-pair[1], pair[0])))


def _added(values: Iterable[str | None], numbers: Iterable[int]) -> dict[str, int]:
    found: defaultdict[str, int] = defaultdict(int)
    for value, number in zip(values, numbers, strict=True):
        found[NO_VERDICT if value is None else value] += number
    return found


def _added_each(values: Iterable[Iterable[str]], numbers: Iterable[int]) -> dict[str, int]:
    found: defaultdict[str, int] = defaultdict(int)
    for some, number in zip(values, numbers, strict=True):
        for value in some:
            found[value] += number
    return found


@functools.lru_cache(1024)
def _distinct(algorithms: str) -> frozenset[str]:
    return frozenset(json.loads(algorithms))


def _tags(connection: Connection) -> Counter[str]:
    kept = select(_facet.value, _facet.number).where(_facet.name == "tag", _facet.number > 0)
    return Counter(dict(map(tuple, connection.execute(kept))))
