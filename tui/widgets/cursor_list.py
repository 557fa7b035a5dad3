"""A list that draws only what is visible and has a cursor; what its items are, subclasses say.

Its items are lines, or tiles of several lines beside each other (`Shape`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any, ClassVar, Self

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.color import Color
from textual.content import Content
from textual.filter import ANSIToTruecolor, LineFilter
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import Reactive
from textual.scroll_view import ScrollView
from textual.scrollbar import ScrollBar
from textual.strip import Strip

from tui import keymap
from tui.faults import Surviving
from tui.text import fit


@dataclass(frozen=True, slots=True)
class Shape:
    """How items lie: so many beside each other, each `width` cells wide and `height` lines high."""

    columns: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """What all lines of one drawing share; to work it out for each would be half of the work."""

    base: Style
    background: Color
    width: int
    shape: Shape


MOST_DRAWN = 300
"""Lines kept as they were drawn, at some kilobytes each: those of a few pages."""


class CursorList(Surviving, ScrollView, can_focus=True):
    """Items with a cursor on one of them.

    Styles are those of component classes `cursor-list--<word>`; they are the same in every list.
    A line is kept as it was drawn until it is another one.
    """

    BINDINGS: ClassVar[list[BindingType]] = keymap.MOVE.bindings()
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"cursor-list--{word}"
        for word in (
            "name",
            "missing",
            "dim",
            "tags",
            "good",
            "bad",
            "cursor",
            "marked",
            "title",
            "checkpoint",
            "lora",
            "embedding",
            "hypernetwork",
            "vae",
            "picture",
        )
    }

    virtual_size: Reactive[Size] = Reactive(Size(0, 0))
    """As in all widgets, but that other items change the bar alone, not the whole screen."""

    class Opened(Message):
        """The line under the cursor was chosen."""

        def __init__(self, source: CursorList) -> None:
            super().__init__()
            self.source = source

        @property
        def control(self) -> CursorList:
            """The list, for `on` with a selector."""
            return self.source

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's word
        self._drawn: dict[int, Strip] = {}
        self._styles: dict[str, Style] = {}
        super().__init__(id=id)
        self._cursor = 0
        self._note: tuple[str, ...] = ()

    # ---- what subclasses say

    @property
    @abstractmethod
    def count(self) -> int:
        """How many items there are."""

    @abstractmethod
    def draw(self, index: int, line: int, base: Style, width: int) -> list[Segment]:
        """A line of an item, in exactly `width` cells."""

    @property
    def shape(self) -> Shape:
        """How the items lie."""
        return Shape(1, self.scrollable_content_region.width, 1)

    def is_settled(self, _index: int) -> bool:
        """Whether an item stays as it is drawn now, and nothing of it is awaited."""
        return True

    def moved(self) -> None:
        """The cursor stands elsewhere, or on something else."""

    # ---- showing

    @property
    def cursor(self) -> int:
        """The item the cursor stands on."""
        return self._cursor

    def reset(self, cursor: int, note: tuple[str, ...] = ()) -> None:
        """The items are others; `note` is said where there are none."""
        self._note = note
        self._cursor = max(0, min(cursor, self.count - 1))
        self.lay_out()
        self.refresh()
        self.moved()

    def lay_out(self) -> None:
        """Their number or shape has changed: make room for all, and keep the cursor in sight."""
        shape = self.shape
        lines = -(-self.count // shape.columns) * shape.height
        self.virtual_size = Size(self.scrollable_content_region.width, lines)
        self._set_bar(ScrollBar.window_virtual_size, lines)
        self.scroll_y = self.validate_scroll_y(self.scroll_y)
        self._reveal()

    def style_of(self, word: str) -> Style:
        """The style of a word of `COMPONENT_CLASSES`."""
        if word not in self._styles:
            style = self.get_component_rich_style(f"cursor-list--{word}", partial=True)
            self._styles[word] = style
        return self._styles[word]

    # ---- drawing

    def refresh(
        self,
        *regions: Region,
        repaint: bool = True,
        layout: bool = False,
        recompose: bool = False,
    ) -> Self:
        """As in all widgets: without regions everything is another one."""
        if not regions:
            self._drawn.clear()
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def notify_style_update(self) -> None:
        """The theme is another one, or the keyboard is elsewhere."""
        self._styles.clear()
        self._drawn.clear()
        super().notify_style_update()

    def render_lines(self, crop: Region) -> list[Strip]:
        """Some lines of the visible part: where nothing is around it, without Textual's detour."""
        if len(self._drawn) > MOST_DRAWN:
            self._drawn.clear()
        if self.styles.gutter.totals != (0, 0):
            return super().render_lines(crop)
        drawing, top = self._begin(), self.scroll_offset.y
        strips = [self._line(top + y, drawing) for y in crop.line_range]
        for each in self.get_line_filters():
            strips = [strip.apply_filter(each, drawing.background) for strip in strips]
        if crop.x or crop.right < drawing.width:
            strips = [strip.crop(*crop.column_span) for strip in strips]
        return strips

    def render_line(self, y: int) -> Strip:
        """One line of the visible part."""
        return self._line(y + self.scroll_offset.y, self._begin())

    def get_line_filters(self) -> Sequence[LineFilter]:
        """All but that for ANSI colours, which would go through all lines and find none."""
        return [one for one in super().get_line_filters() if not isinstance(one, ANSIToTruecolor)]

    def _begin(self) -> Drawing:
        _, background = self.background_colors
        width = self.scrollable_content_region.width
        return Drawing(self.rich_style, background, width, self.shape)

    def _line(self, number: int, drawing: Drawing) -> Strip:
        """A line, counted from the first of all, as wide as the list without its bar.

        Textual would part each line that goes on under the bar.
        """
        strip = self._drawn.get(number)
        if strip is None or strip.cell_length != drawing.width:
            strip = self._draw_line(number, drawing)
            if all(map(self.is_settled, self._items(number, drawing.shape))):
                self._drawn[number] = strip
        return strip

    def _items(self, number: int, shape: Shape) -> range:
        first = number // shape.height * shape.columns
        return range(first, min(first + shape.columns, self.count))

    def _draw_line(self, number: int, drawing: Drawing) -> Strip:
        base, shape = drawing.base, drawing.shape
        items = self._items(number, shape)
        if not items:
            return self._note_line(number, base, drawing.width)
        segments = []
        for index in items:
            style = base + self.style_of("cursor") if index == self._cursor else base
            segments += self.draw(index, number % shape.height, style, shape.width)
        rest = drawing.width - len(items) * shape.width
        if rest:
            segments.append(Segment(" " * rest, base))
        return Strip(segments, drawing.width)

    def _note_line(self, y: int, base: Style, width: int) -> Strip:
        if self.count:
            return Strip.blank(width, base)
        room = self.scrollable_content_region.width
        note = _wrapped(self._note, room - 4)
        line = y - max((self.size.height - len(note)) // 3, 0)
        if not 0 <= line < len(note):
            return Strip.blank(width, base)
        style = base + self.style_of("dim")
        words = note[line]
        margin = max((room - cell_len(words)) // 2, 0)
        return Strip([Segment(fit(" " * margin + words, width), style)], width)

    def refresh_item(self, index: int) -> None:
        """Draw one item anew."""
        region = self._region(index)
        for number in region.line_range:
            self._drawn.pop(number, None)
        self.refresh(region.translate(-self.scroll_offset))

    def _region(self, index: int) -> Region:
        shape = self.shape
        row, column = divmod(index, shape.columns)
        return Region(column * shape.width, row * shape.height, shape.width, shape.height)

    def index_at(self, x: int, y: int) -> int | None:
        """The item at a place of the visible part."""
        shape = self.shape
        column = x // shape.width
        index = (y + self.scroll_offset.y) // shape.height * shape.columns + column
        return index if column < shape.columns and index < self.count else None

    # ---- scrolling

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Another part is visible."""
        self._set_bar(ScrollBar.position, new_value)
        if round(old_value) != round(new_value):
            self.refresh(self.size.region)

    def _set_bar(self, what: Reactive[Any], value: float) -> None:
        """Have the bar drawn anew only if it looks different then.

        Textual takes a quarter of a frame for a bar; of a long list it shows no page's step, and it
        is the same for most letters of a filter.
        """
        bar, before = self.vertical_scrollbar, self._bar_looks()
        bar.set_reactive(what, value)
        if self._bar_looks() != before:
            bar.refresh()

    def _bar_looks(self) -> tuple[int, int]:
        """Where the handle of the bar begins and how long it is, in the eighths that are drawn."""
        bar = self.vertical_scrollbar
        hidden = max(bar.window_virtual_size - bar.window_size, 1)
        handle = max(1, bar.window_size * bar.window_size / max(bar.window_virtual_size, 1))
        starts = int((bar.window_size - handle) * bar.position / hidden * 8)
        return starts, ceil(handle * 8)

    # ---- the cursor

    def place(self, index: int) -> None:
        """Put the cursor on a line."""
        index = max(0, min(index, self.count - 1))
        if index == self._cursor:
            return
        old, self._cursor = self._cursor, index
        self.refresh_item(old)
        self.refresh_item(index)
        self._reveal()
        self.moved()

    def _reveal(self) -> None:
        region = self._region(self._cursor)
        self.scroll_to_region(region, animate=False, force=True, x_axis=False)

    def action_move(self, rows: int) -> None:
        """Move the cursor by rows."""
        self.place(self._cursor + rows * self.shape.columns)

    def action_move_page(self, pages: float) -> None:
        """Move the cursor by pages of what is visible."""
        visible = max((self.size.height - 1) // self.shape.height, 1)
        self.action_move(int(pages * max(visible, 2)) or (1 if pages > 0 else -1))

    def action_move_to_start(self) -> None:
        """To the first row."""
        self.place(0)

    def action_move_to_end(self) -> None:
        """To the last row."""
        self.place(self.count - 1)

    def action_open(self) -> None:
        """Choose the line under the cursor."""
        if self.count:
            self.post_message(self.Opened(self))

    def on_click(self, event: events.Click) -> None:
        """A click puts the cursor there, a second one opens the item."""
        index = self.index_at(event.x, event.y)
        if index is None:
            return
        self.place(index)
        if event.chain == 2:
            self.action_open()

    def on_resize(self) -> None:
        """Keep the cursor in sight, and no empty horizontal bar."""
        self.lay_out()


def cut(segments: list[Segment], width: int, base: Style) -> list[Segment]:
    """Segments in exactly `width` cells: cut, or filled."""
    rest = width - sum(segment.cell_length for segment in segments)
    if rest < 0:
        return list(Strip(segments).crop(0, width))
    return [*segments, Segment(" " * rest, base)] if rest else segments


@lru_cache(maxsize=8)
def _wrapped(sentences: tuple[str, ...], width: int) -> tuple[str, ...]:
    """The lines of sentences, which may be errors with long paths."""
    wrapped = (Content(words).wrap(max(width, 8)) or [Content("")] for words in sentences)
    return tuple(line.plain for lines in wrapped for line in lines)
