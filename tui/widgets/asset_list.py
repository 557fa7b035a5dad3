"""The library's list or grid: asks for pages as they come into sight, and keeps what is marked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType
from textual.message import Message

from converters.errors import AssetmgrError
from registry.list_records import AssetRow, Page
from tui import keymap
from tui.background import Failed, in_background
from tui.columns import GAP, placed
from tui.listing import PAGE_ROWS, Listing
from tui.query import View
from tui.text import fit
from tui.widgets import tiles
from tui.widgets.cursor_list import CursorList, Shape, cut
from tui.widgets.tiles import FindPicture, Pictures

Fetch = Callable[[View, int, int], Page]
"""(view, offset, limit) -> page; called in a thread."""

MARK = "▌"
MOST_MARKED = 20_000


class AssetList(CursorList):
    """The rows of a listing."""

    BINDINGS: ClassVar[list[BindingType]] = keymap.MARK.bindings() + keymap.SIDE.bindings()

    class Highlighted(Message):
        """The cursor stands on another row (None: the list is empty)."""

        def __init__(self, row: AssetRow | None) -> None:
            super().__init__()
            self.row = row

    class Marked(Message):
        """Other assets are marked."""

    def __init__(
        self, fetch: Fetch, find_picture: FindPicture | None, *, tiled: bool = False
    ) -> None:
        """Without `find_picture` tiles have no pictures."""
        super().__init__()
        self._fetch = fetch
        self._tiled = tiled
        self._pictures = find_picture and Pictures(
            self, find_picture, self._in_sight, self._picture_came
        )
        self._listing: Listing | None = None
        self._told: int | None = None
        self._marks: dict[int, AssetRow] = {}

    # ---- what the screen tells it

    def show(self, listing: Listing, cursor: int, note: tuple[str, ...]) -> None:
        """Show another listing with the cursor on row `cursor`; `note` if it is empty."""
        self._listing = listing
        self._told = None
        self.reset(cursor, note)

    def recount(self) -> None:
        """It came to light how many rows there are."""
        self.lay_out()
        self.refresh()

    def forget_pictures(self) -> None:
        """There may be other pictures now."""
        if self._pictures is not None:
            self._pictures.forget()

    @property
    def tiled(self) -> bool:
        """Whether the assets are tiles of a grid, not lines."""
        return self._tiled

    @tiled.setter
    def tiled(self, tiled: bool) -> None:
        self._tiled = tiled
        self.lay_out()
        self.refresh()

    @property
    def shape(self) -> Shape:
        """Lines, or as many tiles as fit beside each other."""
        if not self._tiled:
            return super().shape
        columns = max(self.scrollable_content_region.width // tiles.WIDTH, 1)
        return Shape(columns, tiles.WIDTH, tiles.LINES)

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
        return self._listing.count if self._listing else 0

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
        self.refresh_item(self.cursor)
        self.place(self.cursor + 1)
        self._tell_marks()

    def action_mark_all(self) -> None:
        """Mark every asset that is found; when all of them are marked, none."""
        if self._listing is not None:
            in_background(self, partial(self._mark_all, self._listing), group="marks")

    async def _mark_all(self, listing: Listing) -> None:
        if listing.count > MOST_MARKED:
            self._refuse_to_mark(listing.count)
            return
        page = await asyncio.to_thread(self._fetch, listing.view, 0, MOST_MARKED)
        if page.total > MOST_MARKED:
            self._refuse_to_mark(page.total)
            return
        found = {row.id: row for row in page.rows}
        if found.keys() <= self._marks.keys():
            for asset_id in found:
                del self._marks[asset_id]
        else:
            self._marks.update(found)
        self.refresh()
        self._tell_marks()

    def _refuse_to_mark(self, number: int) -> None:
        said = f"{number:,} assets are too many to mark; narrow the filter"
        self.post_message(Failed(said))

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

    def draw(self, index: int, line: int, base: Style, width: int) -> list[Segment]:
        """A line of a row or tile; of one that is not here yet, an ellipsis."""
        row = self._listing.row(index) if self._listing else None
        if row is None:
            self._load_visible()
            return [Segment(fit("   …" if not line else "", width), base)]
        marked = row.id in self._marks
        mark = Segment(MARK, base + self.style_of("marked")) if marked else Segment(" ", base)
        if self._tiled:
            picture = None if self._pictures is None else self._pictures.get(row)
            drawn = tiles.draw_tile(row, line, picture, base, self.style_of)
            return [mark, *drawn, Segment(" ", base)]
        return cut([mark, *self._columns(row, base, width)], width, base)

    def is_settled(self, index: int) -> bool:
        """Whether its page is here, and its picture where that is to be seen."""
        row = self._listing.row(index) if self._listing else None
        if row is None or not self._tiled or self._pictures is None:
            return row is not None
        return self._pictures.holds(row)

    def _columns(self, row: AssetRow, base: Style, width: int) -> Iterator[Segment]:
        for place in placed(width):
            column, word = place.column, place.column.style(row)
            text = fit(column.cell(row), place.width, right=column.right)
            gap = " " * min(GAP, max(width - place.start - place.width, 0))
            if word == "missing":  # what is struck out ends with the name
                yield Segment(text, base + self.style_of(word))
                yield Segment(gap, base)
            else:
                yield Segment(text + gap, base + self.style_of(word))

    def _in_sight(self) -> Iterator[AssetRow]:
        """The rows of which something is to be seen, while they are tiles."""
        if self._tiled:
            yield from (row for _, row in self._seen())

    def _seen(self) -> Iterator[tuple[int, AssetRow]]:
        if self._listing is None:
            return
        first, last = self._sight()
        for index in range(first, last + 1):
            row = self._listing.row(index)
            if row is not None:
                yield index, row

    def _picture_came(self, asset_id: int) -> None:
        for index, row in self._seen():
            if row.id == asset_id:
                self.refresh_item(index)

    def _sight(self) -> tuple[int, int]:
        """The first and the last item of which something is to be seen."""
        shape, top = self.shape, self.scroll_offset.y
        first = top // shape.height * shape.columns
        rows = -(-self.size.height // shape.height) + 1
        return first, max(min(first + rows * shape.columns, self.count) - 1, first)

    def action_move_side(self, steps: int) -> None:
        """To the tile at the right or left."""
        if self._tiled:
            self.place(self.cursor + steps)

    # ---- pages

    def _load_visible(self) -> None:
        listing = self._listing
        if listing is None:
            return
        for number in listing.lacking(*self._sight()):
            in_background(self, partial(self._load, listing, number), group=f"page {number}")

    async def _load(self, listing: Listing, number: int) -> None:
        try:
            page = await asyncio.to_thread(self._fetch, listing.view, number * PAGE_ROWS, PAGE_ROWS)
        except AssetmgrError:
            listing.forget(number)
            raise
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
