"""How many assets there are of each kind, base, safety, verdict, algorithm and tag.

Of the whole library the database keeps count itself; what a query finds is counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping

from sqlalchemy import ColumnElement, Connection, Text, cast, func, select

from registry import schema
from registry.query import All
from registry.query.terms import NO_VERDICT, Algorithm, Is, PreviewVerdict, Safety, Tag
from registry.text import fold

FACETS = ("kind", "base", "safety", "verdict", "algorithm", "tag")

_asset, _tag, _facet = schema.asset.c, schema.tag.c, schema.facet.c
_EVERY_KIND = (_facet.name == "kind",)
"""Each asset has one."""


def count(connection: Connection, query: All) -> dict[str, dict[str, int]]:
    """Facet -> value -> number of assets, the greatest first."""
    found: dict[str, Counter[str]] = {name: Counter() for name in FACETS}
    counted = _counted(connection, query) if query.terms else _kept(connection)
    for name, value, number in counted:
        found[name][value] += number
    return {name: _sorted(values) for name, values in found.items()}


def kept_number(connection: Connection, query: All) -> int | None:
    """How many assets match a query that asks for all, or for one value of a facet."""
    asked = _asked(query) if query.terms else _EVERY_KIND
    if asked is None:
        return None
    number = select(func.coalesce(func.sum(_facet.number), 0)).where(*asked)
    found: int = connection.execute(number).scalar_one()
    return found


def _asked(query: All) -> tuple[ColumnElement[bool], ...] | None:
    """The rows of the value that the only term of a query names."""
    match query.terms:
        case (Is("kind" | "base" as name, value),):
            return _row(name, value)
        case (Safety(value),):
            return _row("safety", value)
        case (PreviewVerdict(value),):
            return _row("verdict", value)
        case (Algorithm(value),):
            return _row("algorithm", value)
        case (Tag(value),):
            return _row("tag", fold(value))
        case _:
            return None


def _row(name: str, value: str) -> tuple[ColumnElement[bool], ...]:
    return (_facet.name == name, _facet.value == value)


def _sorted(values: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(values.items(), key=lambda pair: (-pair[1], pair[0])))


def _kept(connection: Connection) -> Iterator[tuple[str, str, int]]:
    statement = select(_facet.name, _facet.value, _facet.number).where(_facet.number > 0)
    yield from connection.execute(statement)


def _counted(connection: Connection, query: All) -> Iterator[tuple[str, str, int]]:
    """Assets in one pass: groups of those that are alike are few."""
    number = func.count()
    alike = (*(_asset[name] for name in FACETS[:4]), cast(_asset.algorithm, Text))
    statement = select(*alike, number).where(query.clause()).group_by(*alike)
    for *words, algorithms, assets in connection.execute(statement):
        for name, word in zip(FACETS, words, strict=False):
            yield name, NO_VERDICT if word is None else word, assets
        for algorithm in frozenset(json.loads(algorithms)):
            yield "algorithm", algorithm, assets
    matching = select(_asset.id).where(query.clause())
    tags = select(_tag.name, number).where(_tag.asset_id.in_(matching)).group_by(_tag.name)
    for tag, assets in connection.execute(tags):
        yield "tag", tag, assets
