"""The family tree of an asset: what it was made from, generation by generation, and what of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from converters.statedict import Plain
from registry.tables import schema
from registry.tables.rows import batches

MOST_GENERATIONS = 32
"""Deeper than anybody merges; a bound for lineages that somebody's metadata made up."""

_edge = schema.derivation.c
_Edges = Mapping[int, Sequence[Row[Any]]]


@dataclass(frozen=True, slots=True)
class Ancestor:
    """Something an asset was made from by an operation, and what that was made from in turn.

    `asset` is None for a file the library does not know. Where an asset has several children among
    the descendants, or is its own ancestor by what metadata claim, `parents` are told once.
    """

    asset: int | None
    name: str
    operation: str
    parameters: Mapping[str, Plain]
    parents: tuple[Ancestor, ...] = ()


@dataclass(frozen=True, slots=True)
class Descendant:
    """Something that was made from an asset."""

    asset: int
    name: str
    operation: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """Both directions from one asset: all generations before it, and the next one."""

    parents: tuple[Ancestor, ...]
    children: tuple[Descendant, ...]


def lineage(connection: Connection, asset_id: int) -> Lineage:
    """The tree around an asset; a few statements for each generation."""
    edges = _generations(connection, asset_id)
    return Lineage(_parents(asset_id, edges, {asset_id}), _children(connection, asset_id))


def _generations(connection: Connection, asset_id: int) -> _Edges:
    found: defaultdict[int, list[Row[Any]]] = defaultdict(list)
    generation = {asset_id}
    for _ in range(MOST_GENERATIONS):
        for some in batches(sorted(generation)):
            statement = select(schema.derivation).where(_edge.child_id.in_(some))
            for row in connection.execute(statement.order_by(_edge.id)):
                found[row.child_id].append(row)
        parents = {row.parent_id for child in generation for row in found[child]}
        generation = {parent for parent in parents if parent is not None and parent not in found}
        if not generation:
            break
    return found


def _parents(asset_id: int, edges: _Edges, told: set[int]) -> tuple[Ancestor, ...]:
    return tuple(_ancestor(row, edges, told) for row in edges.get(asset_id, ()))


def _ancestor(row: Row[Any], edges: _Edges, told: set[int]) -> Ancestor:
    parents: tuple[Ancestor, ...] = ()
    if row.parent_id is not None and row.parent_id not in told:
        told.add(row.parent_id)
        parents = _parents(row.parent_id, edges, told)
    return Ancestor(row.parent_id, row.parent_name, row.operation, row.parameters, parents)


def _children(connection: Connection, asset_id: int) -> tuple[Descendant, ...]:
    return _descendants(connection, _edge.parent_id == asset_id)


def made_of(connection: Connection, sha256: str) -> tuple[Descendant, ...]:
    """What was made from a file with these bytes, whether the library knows that file or not."""
    return _descendants(connection, _edge.parent_sha256 == sha256)


def _descendants(connection: Connection, of: ColumnElement[bool]) -> tuple[Descendant, ...]:
    asset = schema.asset.c
    statement = (
        select(asset.id, asset.name, _edge.operation)
        .join_from(schema.derivation, schema.asset, asset.id == _edge.child_id)
        .where(of)
        .order_by(asset.id)
        .distinct()
    )
    return tuple(Descendant(*row) for row in connection.execute(statement))
