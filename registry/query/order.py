"""The orders in which a search gives its assets."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, UnaryExpression

from converters.errors import BadValue
from registry.tables import schema

ORDERS: dict[str, ColumnElement[object]] = {
    "name": schema.asset.c.name_folded,
    "size": schema.asset.c.bytes,
    "added": schema.asset.c.added,
    "updated": schema.asset.c.updated,
    "kind": schema.asset.c.kind,
    "base": schema.asset.c.base,
    "rating": schema.asset.c.rating,
    "verdict": schema.asset.c.verdict,
    "id": schema.asset.c.id,
}
_OFTEN_UNKNOWN = frozenset({"rating", "verdict"})


@dataclass(frozen=True, slots=True)
class Order:
    """By one column, then by name; assets of which it is unknown come last."""

    word: str
    descending: bool

    def columns(self, *, backwards: bool = False) -> tuple[UnaryExpression[object], ...]:
        """What to order by, from the first asset or `backwards` from the last."""
        column, number = ORDERS[self.word], schema.asset.c.id
        first = _directed(column, self.descending != backwards)
        if self.word == "name":  # either way through the index of names and numbers
            return first, _directed(number, self.descending != backwards)
        if self.word in _OFTEN_UNKNOWN:
            first = first.nulls_first() if backwards else first.nulls_last()
        return first, *(_directed(each, backwards) for each in (schema.asset.c.name_folded, number))


def _directed(column: ColumnElement[object], descending: bool) -> UnaryExpression[object]:
    return column.desc() if descending else column.asc()


def parse_order(text: str) -> Order:
    """`size` or, descending, `-size`. Raises BadValue naming the orders there are."""
    word = text.removeprefix("-")
    if word not in ORDERS:
        raise BadValue(f"cannot sort by {word or 'nothing'}; there are {', '.join(ORDERS)}")
    return Order(word, descending=text.startswith("-"))
