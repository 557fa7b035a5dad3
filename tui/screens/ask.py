"""One line of text, asked for in a dialog."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.faults import Surviving
from tui.widgets.line import Line


class AskScreen(Surviving, ModalScreen[str | None]):
    """A title, a line with what is there already, and a hint; None when given up."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "give_up", "cancel", show=False)]

    def __init__(self, title: str, value: str = "", hint: str = "") -> None:
        super().__init__()
        self._title, self._value, self._said = title, value, hint

    def compose(self) -> ComposeResult:
        """Title, input, what the keys do."""
        keys = "Enter keeps · Esc gives up"
        with Vertical(classes="dialog"):
            yield Static(Content(self._title), classes="dialog-title")
            yield Line(self._value, id="ask-input")
            hint = f"{self._said} · {keys}" if self._said else keys
            yield Static(Content(hint), classes="dialog-hint")

    def on_input_submitted(self) -> None:
        """The answer."""
        self.dismiss(self.query_one(Line).answer)

    def action_give_up(self) -> None:
        """No answer."""
        self.dismiss(None)
