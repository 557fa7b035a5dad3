"""Editing the tags of one asset."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static


class TagsScreen(ModalScreen[tuple[str, ...] | None]):
    """All tags in one line, separated by commas; None when given up."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "give_up", "cancel", show=False)]

    def __init__(self, name: str, tags: tuple[str, ...]) -> None:
        super().__init__()
        self._name_shown, self._tags = name, tags

    def compose(self) -> ComposeResult:
        """Title, input, what the keys do."""
        with Vertical(classes="dialog"):
            yield Static(Content(f"Tags of {self._name_shown}"), classes="dialog-title")
            yield Input(", ".join(self._tags), select_on_focus=False, id="tags-input")
            yield Static("separated by commas · Enter keeps · Esc gives up", classes="dialog-hint")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """The tags in their order, each once."""
        words = (word.strip() for word in event.value.split(","))
        self.dismiss(tuple(dict.fromkeys(word for word in words if word)))

    def action_give_up(self) -> None:
        """Leave the tags as they are."""
        self.dismiss(None)
