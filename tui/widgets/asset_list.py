"""The virtual list: draws what is visible and asks for pages as they come into sight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from registry.records import AssetRow, Page
from tui import keymap
from tui.background import in_background
from tui.columns import placed
from tui.listing import PAGE_ROWS, Listing
from tui.query import View
from tui.text import fit

Fetch = Callable[[View, int, int], Page]
"""(view, offset, limit) -> page; called in a thread."""


class AssetList(ScrollView, can_focus=True):
    """The rows of a listing with a cursor."""

    BINDINGS: ClassVar[list[BindingType]] = keymap.MOVE.bindings()
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "asset-list--name",
        "asset-list--missing",
        "asset-list--dim",
        "asset-list--tags",
        "asset-list--good",
        "asset-list--bad",
        "asset-list--cursor",
        "asset-list--checkpoint",
        "asset-list--lora",
        "asset-list--embedding",
        "asset-list--hypernetwork",
        "asset-list--vae",
    }

    class Highlighted(Message):
        """The cursor stands on another row (None: the list is empty)."""

        def __init__(self, row: AssetRow | None) -> None:
            super().__init__()
            self.row = row

    class Opened(Message):
        """The row under the cursor was chosen."""

    def __init__(self, fetch: Fetch, *, id: str | None = None) -> None:  # noqa: A002 - Textual's word
        super().__init__(id=id)
        self._fetch = fetch
        self._listing: Listing | None = None
        self._cursor = 0
        self._told: int | None = None
        self._note: tuple[str, ...] = ()

    # ---- what the screen tells it

    def show(self, listing: Listing, cursor: int, note: tuple[str, ...]) -> None:
        """Show another listing with the cursor on row `cursor`; `note` if it is empty."""
        self._note = note
        self._listing, self._cursor = listing, max(0, min(cursor, listing.total - 1))
        self.virtual_size = Size(self.scrollable_content_region.width, listing.total)
        self._told = None
        self._reveal()
        self.refresh()
        self._tell()

    @property
    def cursor(self) -> int:
        """The row the cursor stands on."""
        return self._cursor

    @property
    def loaded(self) -> bool:
        """Whether it was given a listing yet."""
        return self._listing is not None

    @property
    def current(self) -> AssetRow | None:
        """The row under the cursor, if it is loaded."""
        return self._listing.row(self._cursor) if self._listing else None

    # ---- drawing

    def render_line(self, y: int) -> Strip:
        """One line of the visible part."""
        width = self.scrollable_content_region.width
        index = y + self.scroll_offset.y
        base = self.rich_style
        if self._listing is None or index >= self._listing.total:
            return self._note_line(y, base, width)
        if index == self._cursor:
            base += self.get_component_rich_style("asset-list--cursor", partial=True)
        row = self._listing.row(index)
        if row is None:
            self._load_visible()
            return Strip([Segment(fit("   …", width), base)], width)
        return self._drawn(row, base, width)

    def _note_line(self, y: int, base: Style, width: int) -> Strip:
        line = y - max((self.size.height - len(self._note)) // 3, 0)
        if self._listing is None or self._listing.total or not 0 <= line < len(self._note):
            return Strip.blank(width, base)
        style = base + self.get_component_rich_style("asset-list--dim", partial=True)
        words = self._note[line]
        margin = max((width - cell_len(words)) // 2, 0)
        return Strip([Segment(fit(" " * margin + words, width), style)], width)

    def _drawn(self, row: AssetRow, base: Style, width: int) -> Strip:
        segments = [Segment(" ", base)]
        for place in placed(width):
            column = place.column
            style = self.get_component_rich_style(f"asset-list--{column.style(row)}", partial=True)
            text = fit(column.cell(row), place.width, right=column.right)
            segments += (Segment(text, base + style), Segment("  ", base))
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
            self._tell()

    # ---- the cursor

    def _place(self, index: int) -> None:
        total = self._listing.total if self._listing else 0
        index = max(0, min(index, total - 1))
        if index == self._cursor:
            return
        old, self._cursor = self._cursor, index
        self._refresh_row(old)
        self._refresh_row(index)
        self._reveal()
        self._tell()

    def _refresh_row(self, index: int) -> None:
        self.refresh(Region(0, index - self.scroll_offset.y, self.size.width, 1))

    def _reveal(self) -> None:
        self.scroll_to_region(
            Region(0, self._cursor, 1, 1), animate=False, force=True, x_axis=False
        )

    def _tell(self) -> None:
        row = self.current
        if row is None and self._listing is not None and self._listing.total:
            self._load_visible()
            return
        identity = row.id if row else -1
        if identity != self._told:
            self._told = identity
            self.post_message(self.Highlighted(row))

    def action_move(self, rows: int) -> None:
        """Move the cursor by rows."""
        self._place(self._cursor + rows)

    def action_move_page(self, pages: float) -> None:
        """Move the cursor by pages of what is visible."""
        self._place(self._cursor + int(pages * max(self.size.height - 1, 2)))

    def action_move_to_start(self) -> None:
        """To the first row."""
        self._place(0)

    def action_move_to_end(self) -> None:
        """To the last row."""
        self._place((self._listing.total if self._listing else 1) - 1)

    def action_open(self) -> None:
        """Choose the row under the cursor."""
        if self.current is not None:
            self.post_message(self.Opened())

    def on_click(self, event: events.Click) -> None:
        """A click puts the cursor there, a second one opens the row."""
        self._place(event.y + self.scroll_offset.y)
        if event.chain == 2:
            self.action_open()

    def on_resize(self) -> None:
        """Keep the cursor in sight, and no empty horizontal bar."""
        if self._listing is not None:
            self.virtual_size = Size(self.scrollable_content_region.width, self._listing.total)
            self._reveal()
