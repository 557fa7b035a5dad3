"""One line of text, asked for in a dialog."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static


class AskScreen(ModalScreen[str | None]):
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
            yield Input(self._value, select_on_focus=False, id="ask-input")
            hint = f"{self._said} · {keys}" if self._said else keys
            yield Static(Content(hint), classes="dialog-hint")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """The answer."""
        self.dismiss(event.value)

    def action_give_up(self) -> None:
        """No answer."""
        self.dismiss(None)
