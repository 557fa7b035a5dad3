"""A list that draws only what is visible and has a cursor; what its lines are, subclasses say."""

from __future__ import annotations

from abc import abstractmethod
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

from tui import keymap
from tui.text import fit


class CursorList(ScrollView, can_focus=True):
    """Lines of one cell height with a cursor on one of them.

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
        self._base: Style | None = None

    # ---- what subclasses say

    @property
    @abstractmethod
    def count(self) -> int:
        """How many lines there are."""

    @abstractmethod
    def draw(self, index: int, base: Style, width: int) -> Strip:
        """One line."""

    def moved(self) -> None:
        """The cursor stands elsewhere, or on something else."""

    # ---- showing

    @property
    def cursor(self) -> int:
        """The line the cursor stands on."""
        return self._cursor

    def reset(self, cursor: int, note: tuple[str, ...] = ()) -> None:
        """The lines are others; `note` is said where there are none."""
        self._note = note
        self._cursor = max(0, min(cursor, self.count - 1))
        self.virtual_size = Size(self.scrollable_content_region.width, self.count)
        self._reveal()
        self.refresh()
        self.moved()

    def style_of(self, word: str) -> Style:
        """The style of a word of `COMPONENT_CLASSES`."""
        return self.get_component_rich_style(f"cursor-list--{word}", partial=True)

    def render_lines(self, crop: Region) -> list[Strip]:
        """Some lines of the visible part; the style they share is worked out once."""
        self._base = self.rich_style
        try:
            return super().render_lines(crop)
        finally:
            self._base = None

    def render_line(self, y: int) -> Strip:
        """One line of the visible part."""
        width = self.scrollable_content_region.width
        index = y + self.scroll_offset.y
        base = self._base or self.rich_style
        if index >= self.count:
            return self._note_line(y, base, width)
        if index == self._cursor:
            base += self.style_of("cursor")
        return self.draw(index, base, width)

    def _note_line(self, y: int, base: Style, width: int) -> Strip:
        line = y - max((self.size.height - len(self._note)) // 3, 0)
        if self.count or not 0 <= line < len(self._note):
            return Strip.blank(width, base)
        style = base + self.style_of("dim")
        words = self._note[line]
        margin = max((width - cell_len(words)) // 2, 0)
        return Strip([Segment(fit(" " * margin + words, width), style)], width)

    def refresh_line_of(self, index: int) -> None:
        """Draw one line anew."""
        self.refresh(Region(0, index - self.scroll_offset.y, self.size.width, 1))

    # ---- the cursor

    def place(self, index: int) -> None:
        """Put the cursor on a line."""
        index = max(0, min(index, self.count - 1))
        if index == self._cursor:
            return
        old, self._cursor = self._cursor, index
        self.refresh_line_of(old)
        self.refresh_line_of(index)
        self._reveal()
        self.moved()

    def _reveal(self) -> None:
        self.scroll_to_region(
            Region(0, self._cursor, 1, 1), animate=False, force=True, x_axis=False
        )

    def action_move(self, rows: int) -> None:
        """Move the cursor by rows."""
        self.place(self._cursor + rows)

    def action_move_page(self, pages: float) -> None:
        """Move the cursor by pages of what is visible."""
        self.place(self._cursor + int(pages * max(self.size.height - 1, 2)))

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
        """A click puts the cursor there, a second one opens the line."""
        if event.y + self.scroll_offset.y >= self.count:
            return
        self.place(event.y + self.scroll_offset.y)
        if event.chain == 2:
            self.action_open()

    def on_resize(self) -> None:
        """Keep the cursor in sight, and no empty horizontal bar."""
        self.virtual_size = Size(self.scrollable_content_region.width, self.count)
        self._reveal()
