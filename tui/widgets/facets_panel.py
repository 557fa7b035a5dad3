"""The facets at the left of the list: values with their counts, which narrow the filter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from tui.query import holds
from tui.text import plain
from tui.widgets.cursor_list import CursorList
from tui.widgets.table import Cell, TableColumn, TableLines, TableRow

if TYPE_CHECKING:
    from assetmgr.operations.facets import Facet

MOST_VALUES = 12
"""Values shown of a facet: of tags there may be thousands."""


class FacetsPanel(TableLines):
    """One line for each value; Enter or a click takes it into the filter, or out of it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "in, or out", key_display="Enter"),
    ]

    class Toggled(Message):
        """A term of the query language was chosen."""

        def __init__(self, term: str) -> None:
            super().__init__()
            self.term = term

    def __init__(self) -> None:
        super().__init__((TableColumn("", 0), TableColumn("", 7, right=True)), id="facets")

    def tell(self, facets: Sequence[Facet], query: str) -> None:
        """Show counts; values that the query holds are marked. The cursor stays on its value."""
        term = None if self.current is None else self.current.key
        rows = [*_rows(facets, query)]
        found = (number for number, row in enumerate(rows) if term and row.key == term)
        # At first on the first value: a heading cannot be chosen.
        self.show(rows, ("nothing to count",), next(found, max(self.cursor, 1)))

    def place(self, index: int) -> None:
        """Past headings: they cannot be chosen."""
        values = [number for number, row in enumerate(self.rows) if row.key]
        if index > self.cursor:
            index = next((n for n in values if n >= index), max(values, default=index))
        else:
            index = next((n for n in reversed(values) if n <= index), min(values, default=index))
        super().place(index)

    def on_click(self, event: events.Click) -> None:
        """The value that was clicked; nothing else, as for a list, on which this panel builds."""
        event.prevent_default()
        index = self.index_at(event.x, event.y)
        if index is not None and self.rows[index].key:
            self.place(index)
            self.toggle()

    def on_cursor_list_opened(self, message: CursorList.Opened) -> None:
        """The value under the cursor."""
        message.stop()
        self.toggle()

    def toggle(self) -> None:
        """Take the value under the cursor into the filter, or out of it."""
        row = self.current
        if row is not None and row.key:
            self.post_message(self.Toggled(str(row.key)))


def _rows(facets: Sequence[Facet], query: str) -> Iterator[TableRow]:
    for facet in facets:
        if not facet.values:
            continue
        yield TableRow((Cell(facet.name.upper(), "title"), Cell("")))
        for value in facet.values[:MOST_VALUES]:
            chosen = holds(query, value.term)
            name = PurePath(value.value).name if facet.name == "folder" else value.value
            mark = "● " if chosen else "  "
            cells = (
                Cell(mark + plain(name), "good" if chosen else "name"),
                Cell(f"{value.count:,}", "dim"),
            )
            yield TableRow(cells, value.term)
        more = len(facet.values) - MOST_VALUES
        if more > 0:
            yield TableRow((Cell(f"  and {more:,} more", "dim"), Cell("")))
