"""How many assets there are of each kind, base, safety, verdict, algorithm and tag.

Of the whole library the database keeps count itself; what a query finds is counted.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, Text, cast, func, select

from registry import alike, schema
from registry.finding import through_ids
from registry.query import All
from registry.query.terms import NO_VERDICT

FACETS = ("kind", "base", "safety", "verdict", "algorithm", "tag")

_asset, _tag, _facet = schema.asset.c, schema.tag.c, schema.facet.c


def count(connection: Connection, query: All) -> dict[str, dict[str, int]]:
    """Facet -> value -> number of assets, the greatest first."""
    found: dict[str, Counter[str]] = {name: Counter() for name in FACETS}
    for group in _groups(connection, query):
        for name, value, number in _values(*group):
            found[name][value] += number
    found["tag"].update(_tags(connection, query))
    return {name: _sorted(values) for name, values in found.items()}


def _sorted(values: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(values.items(), key=lambda pair: (-pair[1], pair[0])))


def _groups(connection: Connection, query: All) -> Iterator[tuple[Any, ...]]:
    """Values of the facets that assets have together, and how many assets have them."""
    if alike.tells(query):
        yield from alike.groups(connection, query, *FACETS[:5])
        return
    words = (*(_asset[name] for name in FACETS[:4]), cast(_asset.algorithm, Text))
    statement = through_ids(select(*words, func.count()).where(query.clause()).group_by(*words))
    yield from map(tuple, connection.execute(statement))


def _values(*group: Any) -> Iterator[tuple[str, str, int]]:
    *words, algorithms, number = group
    for name, word in zip(FACETS, words, strict=False):
        yield name, NO_VERDICT if word is None else word, number
    for algorithm in _distinct(algorithms):
        yield "algorithm", algorithm, number


@functools.lru_cache(1024)
def _distinct(algorithms: str) -> frozenset[str]:
    return frozenset(json.loads(algorithms))


def _tags(connection: Connection, query: All) -> dict[str, int]:
    if not query.terms:
        kept = select(_facet.value, _facet.number).where(_facet.name == "tag", _facet.number > 0)
        return dict(map(tuple, connection.execute(kept)))
    matching = through_ids(select(_asset.id).where(query.clause()))
    tags = select(_tag.name, func.count()).where(_tag.asset_id.in_(matching)).group_by(_tag.name)
    return dict(map(tuple, connection.execute(tags)))
