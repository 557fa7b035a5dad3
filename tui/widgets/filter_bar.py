"""The filter line: an input, the number of matches, and what is wrong with a bad filter."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static


class FilterInput(Input):
    """An input that hands the keyboard back to the list."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,down", "leave", "to the list", key_display="Enter"),
        Binding("escape", "clear", "clear", key_display="Esc"),
    ]

    def action_clear(self) -> None:
        """Empty the filter and leave."""
        self.value = ""
        self.action_leave()

    def action_leave(self) -> None:
        """Keep the filter and leave."""
        self.post_message(FilterBar.Left())


class FilterBar(Widget):
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
                select_on_focus=False,
                id="filter-input",
            )
            yield Static(id="filter-matches")
        yield Static(id="filter-error")

    def start(self) -> None:
        """Take the keyboard."""
        self.query_one(FilterInput).focus()

    @property
    def text(self) -> str:
        """What is typed."""
        return self.query_one(FilterInput).value

    @text.setter
    def text(self, text: str) -> None:
        self.query_one(FilterInput).value = text

    def clear(self) -> None:
        """Empty the filter."""
        self.query_one(FilterInput).value = ""

    def tell(self, matches: str) -> None:
        """A good filter found this much."""
        shown = self.query_one("#filter-matches", Static)
        if str(shown.content) != matches:  # an update costs a layout of the whole screen
            shown.update(Content(matches))
        self.query_one("#filter-error", Static).display = False

    def refuse(self, error: str) -> None:
        """The filter means nothing; the list stays as it was."""
        line = self.query_one("#filter-error", Static)
        line.update(Content(error))
        line.display = True

    def on_input_changed(self, event: Input.Changed) -> None:
        """Every keystroke is a new filter."""
        event.stop()
        self.post_message(self.Changed(event.value))
