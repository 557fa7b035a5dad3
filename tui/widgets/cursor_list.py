"""A list that draws only what is visible and has a cursor; what its items are, subclasses say.

Its items are lines, or tiles of several lines beside each other (`Shape`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.content import Content
from textual.filter import ANSIToTruecolor, LineFilter
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui import keymap
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
    width: int
    shape: Shape
    styles: dict[str, Style] = field(default_factory=dict)


class CursorList(ScrollView, can_focus=True):
    """Items with a cursor on one of them.

    Styles are those of component classes `cursor-list--<word>`; they are the same in every list.
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
        super().__init__(id=id)
        self._cursor = 0
        self._note: tuple[str, ...] = ()
        self._drawing: Drawing | None = None

    # ---- what subclasses say

    @property
    @abstractmethod
    def count(self) -> int:
        """How many items there are."""

    @abstractmethod
    def draw(self, index: int, line: int, base: Style, width: int) -> list[Segment]:
        """A line of an item, in `width` cells; what is missing at its end is filled."""

    @property
    def shape(self) -> Shape:
        """How the items lie."""
        return Shape(1, self.scrollable_content_region.width, 1)

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
        self._reveal()

    def style_of(self, word: str) -> Style:
        """The style of a word of `COMPONENT_CLASSES`."""
        known = {} if self._drawing is None else self._drawing.styles
        if word not in known:
            known[word] = self.get_component_rich_style(f"cursor-list--{word}", partial=True)
        return known[word]

    def render_lines(self, crop: Region) -> list[Strip]:
        """Some lines of the visible part."""
        self._drawing = self._begin()
        try:
            return super().render_lines(crop)
        finally:
            self._drawing = None

    def get_line_filters(self) -> Sequence[LineFilter]:
        """All but that for ANSI colours, which would go through all lines and find none."""
        return [one for one in super().get_line_filters() if not isinstance(one, ANSIToTruecolor)]

    def _begin(self) -> Drawing:
        return Drawing(self.rich_style, self.scrollable_content_region.width, self.shape)

    def render_line(self, y: int) -> Strip:
        """One line of the visible part."""
        drawing = self._drawing or self._begin()
        base, width, shape = drawing.base, drawing.width, drawing.shape
        row, line = divmod(y + self.scroll_offset.y, shape.height)
        first = row * shape.columns
        if first >= self.count:
            return self._note_line(y, base, width)
        last, segments, end = min(first + shape.columns, self.count), [], base
        for index in range(first, last):
            end = base + self.style_of("cursor") if index == self._cursor else base
            segments += self.draw(index, line, end, shape.width)
        return Strip(segments).adjust_cell_length(width, end if shape.columns == 1 else base)

    def _note_line(self, y: int, base: Style, width: int) -> Strip:
        note = [line for words in self._note for line in _wrapped(words, width - 4)]
        line = y - max((self.size.height - len(note)) // 3, 0)
        if self.count or not 0 <= line < len(note):
            return Strip.blank(width, base)
        style = base + self.style_of("dim")
        words = note[line]
        margin = max((width - cell_len(words)) // 2, 0)
        return Strip([Segment(fit(" " * margin + words, width), style)], width)

    def refresh_item(self, index: int) -> None:
        """Draw one item anew."""
        self.refresh(self._region(index).translate(-self.scroll_offset))

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


def _wrapped(words: str, width: int) -> list[str]:
    """The lines of a sentence, which may be an error with a long path."""
    return [line.plain for line in Content(words).wrap(max(width, 8))] or [""]
