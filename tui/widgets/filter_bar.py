"""The filter line: an input, the number of matches, and what is wrong with a bad filter."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.reactive import Reactive
from textual.widgets import Input, Static

from tui.background import in_background
from tui.faults import Part
from tui.widgets.line import Line

REFUSE_SECONDS = 0.4
"""How long a filter stays half typed before it is called wrong: that moves the list by a line."""


class FilterInput(Line):
    """An input that hands the keyboard back to the list."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,down", "leave", "to the list", key_display="Enter"),
        Binding("escape", "clear", "clear", key_display="Esc"),
    ]

    virtual_size: Reactive[Size] = Reactive(Size(0, 0))
    """As in all widgets, but that a letter more does not lay out the whole screen anew."""

    def action_clear(self) -> None:
        """Empty the filter and leave."""
        self.value = ""
        self.action_leave()

    def action_leave(self) -> None:
        """Keep the filter and leave."""
        self.post_message(FilterBar.Left())


class FilterBar(Part):
    """Filter as you type."""

    class Changed(Message):
        """The text is another one."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Left(Message):
        """The keyboard goes back to the list."""

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self._first = text

    def compose(self) -> ComposeResult:
        """The line and, under it, room for an error."""
        with Horizontal():
            yield Static("/", id="filter-mark")
            yield FilterInput(
                self._first,
                placeholder="filter: words, kind:lora, tag:x, size:>1gb, is:missing",
                compact=True,
                id="filter-input",
            )
            yield Static(id="filter-matches")
        yield Static(id="filter-error")

    def start(self) -> None:
        """Take the keyboard."""
        self.screen.set_focus(self.query_one(FilterInput))  # before the next key

    @property
    def text(self) -> str:
        """What is typed."""
        return self.query_one(FilterInput).answer

    @text.setter
    def text(self, text: str) -> None:
        self.query_one(FilterInput).give(text)

    def clear(self) -> None:
        """Empty the filter."""
        self.query_one(FilterInput).value = ""

    def tell(self, matches: str) -> None:
        """A good filter found this much."""
        shown = self.query_one("#filter-matches", Static)
        shown.update(Content(matches), layout=False)  # it has its width
        self.workers.cancel_group(self, "refusal")
        line = self.query_one("#filter-error", Static)
        if line.display:
            line.update(Content(""), layout=False)
            in_background(self, self._close, group="refusal")

    async def _close(self) -> None:
        """Give the line of the error back to the list, which lays out all: not between letters."""
        await asyncio.sleep(REFUSE_SECONDS)
        self.query_one("#filter-error", Static).display = False

    def refuse(self, error: str) -> None:
        """The filter means nothing; the list stays as it was. Who still types is not told yet."""
        in_background(self, partial(self._refuse, error), group="refusal")

    async def _refuse(self, error: str) -> None:
        await asyncio.sleep(REFUSE_SECONDS)
        line = self.query_one("#filter-error", Static)
        line.update(Content(error))
        line.display = True

    def on_input_changed(self, event: Input.Changed) -> None:
        """Every keystroke is a new filter."""
        event.stop()
        self.post_message(self.Changed(self.text))
