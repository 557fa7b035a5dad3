"""The library's list: asks for pages as they come into sight, and keeps what is marked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType
from textual.message import Message
from textual.strip import Strip

from registry.records import AssetRow, Page
from tui import keymap
from tui.background import Failed, in_background
from tui.columns import placed
from tui.listing import PAGE_ROWS, Listing
from tui.query import View
from tui.text import fit
from tui.widgets.cursor_list import CursorList

Fetch = Callable[[View, int, int], Page]
"""(view, offset, limit) -> page; called in a thread."""

MARK = "▌"
MOST_MARKED = 20_000


class AssetList(CursorList):
    """The rows of a listing."""

    BINDINGS: ClassVar[list[BindingType]] = keymap.MARK.bindings()

    class Highlighted(Message):
        """The cursor stands on another row (None: the list is empty)."""

        def __init__(self, row: AssetRow | None) -> None:
            super().__init__()
            self.row = row

    class Marked(Message):
        """Other assets are marked."""

    def __init__(self, fetch: Fetch, *, id: str | None = None) -> None:  # noqa: A002 - Textual's word
        super().__init__(id=id)
        self._fetch = fetch
        self._listing: Listing | None = None
        self._told: int | None = None
        self._marks: dict[int, AssetRow] = {}

    # ---- what the screen tells it

    def show(self, listing: Listing, cursor: int, note: tuple[str, ...]) -> None:
        """Show another listing with the cursor on row `cursor`; `note` if it is empty."""
        self._listing = listing
        self._told = None
        self.reset(cursor, note)

    @property
    def loaded(self) -> bool:
        """Whether it was given a listing yet."""
        return self._listing is not None

    @property
    def view(self) -> View | None:
        """What is shown."""
        return None if self._listing is None else self._listing.view

    @property
    def count(self) -> int:
        """How many assets match."""
        return self._listing.total if self._listing else 0

    @property
    def current(self) -> AssetRow | None:
        """The row under the cursor, if it is loaded."""
        return self._listing.row(self.cursor) if self._listing else None

    @property
    def chosen(self) -> tuple[AssetRow, ...]:
        """What actions are about: the marked assets, else the one under the cursor."""
        if self._marks:
            return tuple(self._marks.values())
        return () if self.current is None else (self.current,)

    # ---- marks

    @property
    def marks(self) -> Mapping[int, AssetRow]:
        """The marked assets by their numbers."""
        return self._marks

    def action_mark(self) -> None:
        """Mark or unmark the row under the cursor, and go on to the next."""
        row = self.current
        if row is None:
            return
        if self._marks.pop(row.id, None) is None:
            self._marks[row.id] = row
        self.refresh_line_of(self.cursor)
        self.action_move(1)
        self._tell_marks()

    def action_mark_all(self) -> None:
        """Mark every asset that is found; when all of them are marked, none."""
        if self.count > MOST_MARKED:
            said = f"{self.count:,} assets are too many to mark; narrow the filter"
            self.post_message(Failed(said))
        elif self._listing is not None:
            in_background(self, partial(self._mark_all, self._listing), group="marks")

    async def _mark_all(self, listing: Listing) -> None:
        page = await asyncio.to_thread(self._fetch, listing.view, 0, listing.total)
        found = {row.id: row for row in page.rows}
        if found.keys() <= self._marks.keys():
            for asset_id in found:
                del self._marks[asset_id]
        else:
            self._marks.update(found)
        self.refresh()
        self._tell_marks()

    def clear_marks(self) -> bool:
        """Unmark everything; whether anything was marked."""
        had = bool(self._marks)
        self._marks.clear()
        if had:
            self.refresh()
            self._tell_marks()
        return had

    def _tell_marks(self) -> None:
        self.post_message(self.Marked())

    # ---- drawing

    def draw(self, index: int, base: Style, width: int) -> Strip:
        """The columns of a row; of one that is not here yet, an ellipsis."""
        row = self._listing.row(index) if self._listing else None
        if row is None:
            self._load_visible()
            return Strip([Segment(fit("   …", width), base)], width)
        marked = row.id in self._marks
        mark = Segment(MARK, base + self.style_of("marked")) if marked else Segment(" ", base)
        segments = [mark]
        for place in placed(width):
            column = place.column
            text = fit(column.cell(row), place.width, right=column.right)
            style = base + self.style_of(column.style(row))
            segments += (Segment(text, style), Segment("  ", base))
        return Strip(segments).adjust_cell_length(width, base)

    # ---- pages

    def _load_visible(self) -> None:
        listing = self._listing
        if listing is None:
            return
        top = self.scroll_offset.y
        for number in listing.lacking(top, min(top + self.size.height, listing.total - 1)):
            in_background(self, partial(self._load, listing, number), group=f"page {number}")

    async def _load(self, listing: Listing, number: int) -> None:
        page = await asyncio.to_thread(self._fetch, listing.view, number * PAGE_ROWS, PAGE_ROWS)
        listing.add(number, page.rows)
        if listing is self._listing:
            self.refresh()
            self.moved()

    def moved(self) -> None:
        """Tell which row the cursor stands on, as soon as it is here."""
        row = self.current
        if row is None and self.count:
            self._load_visible()
            return
        identity = row.id if row else -1
        if identity != self._told:
            self._told = identity
            self.post_message(self.Highlighted(row))
