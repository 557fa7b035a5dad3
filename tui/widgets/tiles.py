"""An asset as a tile of a grid: its picture in half cells over its name.

A tile is drawn from what is there; its picture is read in the background and comes when it comes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from rich.segment import Segment
from rich.style import Style
from textual.widget import Widget

from converters.errors import AssetmgrError
from registry.list_records import AssetRow
from tui.background import in_background
from tui.columns import KIND_STYLES, name_style, verdict_mark, verdict_style
from tui.images import read_picture
from tui.shown_picture import BESIDE, ShownPicture
from tui.text import fit, plain
from tui.widgets.half_cells import half_cells

PICTURE_CELLS, PICTURE_LINES = 20, 10
WIDTH, LINES = PICTURE_CELLS + 2, PICTURE_LINES + 2
MOST_HELD = 80
"""Pictures kept as they are drawn: more than nearly any screen shows."""
_SHADES = 0b11111000
"""Of a thumbnail 32 shades of each colour do, and make styles that pictures share."""
SETTLE_SECONDS = 0.05
"""How long the grid rests before a picture is read: a held key reads none."""

FindPicture = Callable[[AssetRow], ShownPicture | None]
"""The picture of an asset; called in a thread. Raises AssetmgrError."""
StyleOf = Callable[[str], Style]


@dataclass(frozen=True, slots=True)
class Drawn:
    """The lines of a picture, and whether it is a render."""

    lines: tuple[list[Segment], ...]
    is_render: bool


class Pictures:
    """The pictures of the tiles in sight, for the list that shows them."""

    def __init__(
        self,
        owner: Widget,
        find: FindPicture,
        sight: Callable[[], Iterable[AssetRow]],
        came: Callable[[int], None],
    ) -> None:
        self._owner, self._find, self._sight, self._came = owner, find, sight, came
        self._held: OrderedDict[int, Drawn | None] = OrderedDict()
        self._fetching = False
        self._rested: list[int] = []

    def get(self, row: AssetRow) -> Drawn | None:
        """The picture of a row in sight if it is here; else it will be fetched."""
        if row.id in self._held:
            self._held.move_to_end(row.id)
            return self._held[row.id]
        if not self._fetching:
            self._fetching = True
            in_background(self._owner, self._fetch, group="pictures")
        return None

    def holds(self, row: AssetRow) -> bool:
        """Whether it is known how a row looks."""
        return row.id in self._held

    def forget(self) -> None:
        """There may be other pictures now."""
        self._held.clear()

    async def _fetch(self) -> None:
        try:
            while (row := await self._next()) is not None:
                self._held[row.id] = await asyncio.to_thread(partial(_read, self._find, row))
                if len(self._held) > MOST_HELD:
                    self._held.popitem(last=False)
                self._came(row.id)
        finally:
            self._fetching = False

    async def _next(self) -> AssetRow | None:
        """The first row in sight without its picture, once the same ones have been in sight."""
        while (sight := [row.id for row in self._sight()]) != self._rested:
            self._rested = sight
            await asyncio.sleep(SETTLE_SECONDS)
        return next((row for row in self._sight() if row.id not in self._held), None)


def _read(find: FindPicture, row: AssetRow) -> Drawn | None:
    try:
        shown = find(row)
    except AssetmgrError:  # forgotten meanwhile
        return None
    picture = None if shown is None else read_picture(shown.path)
    if shown is None or picture is None:
        return None
    small = picture.resize((PICTURE_CELLS, 2 * PICTURE_LINES))
    pixels = small.point(lambda value: value & _SHADES).tobytes()
    lines = tuple(half_cells(pixels, PICTURE_CELLS, line) for line in range(PICTURE_LINES))
    return Drawn(lines, shown.is_render)


def draw_tile(
    row: AssetRow, line: int, picture: Drawn | None, base: Style, style_of: StyleOf
) -> list[Segment]:
    """One line of a tile without its margins."""
    if line < PICTURE_LINES and picture is not None:
        is_caption = line == PICTURE_LINES - 1 and not picture.is_render
        caption = Segment(BESIDE.center(PICTURE_CELLS), base + style_of("dim"))
        return [caption] if is_caption else picture.lines[line]
    if line < PICTURE_LINES:
        word = str(row.kind) if line == PICTURE_LINES // 2 else ""
        style = base + style_of("picture") + style_of(_kind(row))
        return [Segment(word.center(PICTURE_CELLS)[:PICTURE_CELLS], style)]
    if line == PICTURE_LINES:
        name = fit(plain(row.name), PICTURE_CELLS)
        return [Segment(name, base + style_of(name_style(row)))]
    known = [str(word) for word in (row.kind, row.base) if word != "unknown"]
    facts = fit(" ".join(["", *known]), PICTURE_CELLS - 1)
    return [
        Segment(verdict_mark(row), base + style_of(verdict_style(row))),
        Segment(facts, base + style_of("dim")),
    ]


def _kind(row: AssetRow) -> str:
    return row.kind if row.kind in KIND_STYLES else "dim"
