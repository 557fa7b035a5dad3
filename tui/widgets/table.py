"""A list of prepared rows in columns, under titles: tensors, duplicates, search results, jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from tui.columns import GAP
from tui.faults import Part, Surviving
from tui.text import fit, fit_middle
from tui.widgets.cursor_list import CursorList, cut


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column: `width` in cells (0: what the others leave)."""

    title: str
    width: int
    right: bool = False
    from_width: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """An inert text (made by `plain`) in a style of `CursorList`.

    What is too long is cut at its end, or where both ends matter in the middle.
    """

    text: str
    style: str = "name"
    both_ends: bool = False


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row and what it stands for."""

    cells: tuple[Cell, ...]
    key: object = None


class TableLines(CursorList):
    """The rows of a table."""

    class Moved(Message):
        """The cursor stands on another row (None: there is none)."""

        def __init__(self, row: TableRow | None) -> None:
            super().__init__()
            self.row = row

    def __init__(self, columns: Sequence[TableColumn], *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.columns = tuple(columns)
        self._rows: Sequence[TableRow] = ()

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    @property
    def rows(self) -> Sequence[TableRow]:
        """The rows."""
        return self._rows

    @property
    def current(self) -> TableRow | None:
        """The row under the cursor."""
        return self._rows[self.cursor] if self._rows else None

    @property
    def whole(self) -> str:
        """What is cut in the middle of the row under the cursor."""
        cells = () if self.current is None else self.current.cells
        rooms = dict(widths(self.columns, self.size.width))
        long = (
            cell.text
            for number, cell in enumerate(cells)
            if cell.both_ends and cell_len(cell.text) > rooms.get(number, 0)
        )
        return next(long, "").strip()

    def show(
        self, rows: Sequence[TableRow], note: tuple[str, ...] = (), cursor: int | None = None
    ) -> None:
        """Show other rows; the cursor stays where it is unless told otherwise."""
        self._rows = rows
        self.reset(self.cursor if cursor is None else cursor, note)

    def draw(self, index: int, line: int, base: Style, width: int) -> list[Segment]:
        """The cells of a row in their columns."""
        segments = [Segment(" ", base)]
        cells = self._rows[index].cells
        for number, room in widths(self.columns, width):
            if number >= len(cells):
                break
            cell, right = cells[number], self.columns[number].right
            style = base + self.style_of(cell.style)
            text = cell.text if not cell.both_ends else fit_middle(cell.text, room)
            segments += (Segment(fit(text, room, right=right), style), Segment("  ", base))
        return cut(segments, width, base)

    def moved(self) -> None:
        """Tell which row the cursor stands on."""
        self.post_message(self.Moved(self.current))


def widths(columns: Sequence[TableColumn], width: int) -> list[tuple[int, int]]:
    """The number and the cells of every column that fits into `width`.

    >>> name, size = TableColumn("Name", 0), TableColumn("Size", 8)
    >>> widths((name, size), 40)
    [(0, 27), (1, 8)]
    """
    shown = [n for n, column in enumerate(columns) if column.from_width <= width]
    taken = 1 + sum(columns[n].width for n in shown) + GAP * len(shown)
    return [(n, columns[n].width or max(width - taken, 8)) for n in shown]


class Table(Part):
    """Titles over lines, and under them what is cut in the line under the cursor.

    There is room for that from the first such line on: the lines shall not jump.
    """

    def __init__(self, *columns: TableColumn, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._columns = columns
        self.lines = TableLines(columns)

    def compose(self) -> ComposeResult:
        """The titles and the lines."""
        yield TableTitles(self._columns)
        yield self.lines
        yield Static(classes="whole", markup=False)

    @on(TableLines.Moved)
    def _tell_whole(self) -> None:
        whole, text = self.query_one(".whole", Static), self.lines.whole
        whole.update(Content(text))
        if text:
            whole.display = True


class TableTitles(Surviving, Static):
    """The titles of a table's columns."""

    def __init__(self, columns: Sequence[TableColumn]) -> None:
        super().__init__()
        self._columns = columns

    def render(self) -> Content:
        """One line; the list under it gives a cell to its scroll bar."""
        titles = [
            fit(self._columns[n].title, room, right=self._columns[n].right)
            for n, room in widths(self._columns, self.size.width - 1)
        ]
        return Content(" " + "  ".join(titles))
