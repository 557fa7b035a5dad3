"""The columns of the list: which there are at a width, and what they show of a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from registry.list_records import AssetRow
from tui.text import day, plain, size

KIND_STYLES = frozenset({"checkpoint", "lora", "embedding", "hypernetwork", "vae"})


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `width` in cells (0: its share of what is left), `sort` the order it stands for.

    `cell` gives the text of a row, `style` the component class that colours it.
    """

    title: str
    width: int
    cell: Callable[[AssetRow], str]
    style: Callable[[AssetRow], str]
    sort: str | None = None
    right: bool = False
    from_width: int = 0


def verdict_mark(row: AssetRow) -> str:
    """One cell: ! unsafe, ✗ and ✓ the verdict of the preview, blank while nothing is known."""
    if row.safety == "dangerous":
        return "!"
    return {"ok": "✓", "failed": "✗"}.get(row.verdict or "", " ")


def verdict_style(row: AssetRow) -> str:
    """The style of that mark."""
    return {"!": "bad", "✗": "bad", "✓": "good"}.get(verdict_mark(row), "dim")


def name_style(row: AssetRow) -> str:
    """The style of a name: what is missing is struck through."""
    return "missing" if row.state == "missing" else "name"


def _kind_style(row: AssetRow) -> str:
    return row.kind if row.kind in KIND_STYLES else "dim"


def _dim(_row: AssetRow) -> str:
    return "dim"


def _tags(row: AssetRow) -> str:
    return plain(" ".join(row.tags))


COLUMNS = (
    Column(" ", 1, verdict_mark, verdict_style, sort="verdict"),
    Column("Name", 0, lambda row: plain(row.name), name_style, sort="name"),
    Column("Kind", 12, lambda row: str(row.kind), _kind_style, from_width=50),
    Column("Base", 7, lambda row: str(row.base), _dim, from_width=58),
    Column("Size", 8, lambda row: size(row.bytes), _dim, sort="size", right=True),
    Column("Tags", 16, _tags, lambda _row: "tags", from_width=84),
    Column("Added", 10, lambda row: day(row.added), _dim, sort="added", from_width=100),
)
GAP = 2


@dataclass(frozen=True, slots=True)
class Placed:
    """A column at its place: `start` and `width` in cells."""

    column: Column
    start: int
    width: int


@lru_cache(maxsize=64)
def placed(width: int) -> tuple[Placed, ...]:
    """The columns that fit into `width` cells, left to right; the name takes what is left."""
    shown = [column for column in COLUMNS if column.from_width <= width]
    taken = sum(column.width for column in shown) + GAP * len(shown)
    places: list[Placed] = []
    start = 1
    for column in shown:
        cells = column.width or max(width - taken, 8)
        places.append(Placed(column, start, cells))
        start += cells + GAP
    return tuple(places)
