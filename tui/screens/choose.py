"""One of several, chosen by its letter or with the cursor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.faults import Surviving
from tui.text import plain
from tui.widgets.cursor_list import CursorList
from tui.widgets.table import Cell, TableColumn, TableLines, TableRow

_MOST_LINES = 14
_LABEL_CELLS = 20


@dataclass(frozen=True, slots=True)
class Choice:
    """What can be chosen: a key ("" for none), its name, more about it, and what it stands for."""

    key: str
    label: str
    detail: str
    value: str


class ChooseScreen(Surviving, ModalScreen[str | None]):
    """A short list; None when given up. `extra` adds keys that end it with a word of their own."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "give_up", "cancel", show=False),
    ]

    def __init__(
        self,
        title: str,
        choices: Sequence[Choice],
        hint: str = "",
        extra: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._title, self._choices, self._said = title, choices, hint
        self._extra = frozenset(extra)

    def compose(self) -> ComposeResult:
        """Title, lines, what the keys do."""
        columns = (TableColumn("", 1), TableColumn("", _LABEL_CELLS), TableColumn("", 0))
        with Vertical(classes="dialog"):
            yield Static(Content(self._title), classes="dialog-title")
            lines = TableLines(columns, id="choices")
            lines.styles.height = max(1, min(len(self._choices), _MOST_LINES))
            yield lines
            hint = " · ".join(filter(None, (self._said, "Enter chooses", "Esc closes")))
            yield Static(Content(hint), classes="dialog-hint")

    def on_mount(self) -> None:
        """The choices."""
        lines = self.query_one(TableLines)
        lines.show([_row(choice) for choice in self._choices], ("nothing here yet",))
        lines.focus()

    def on_cursor_list_opened(self, message: CursorList.Opened) -> None:
        """Enter, or a double click."""
        message.stop()
        row = self.query_one(TableLines).current
        if row is not None:
            self.dismiss(str(row.key))

    def on_key(self, event: events.Key) -> None:
        """A letter of a choice, or an extra key: `KEY:VALUE`, the value under the cursor."""
        if event.character is None:
            return
        if event.character in self._extra:
            event.stop()
            row = self.query_one(TableLines).current
            self.dismiss(f"{event.character}:{'' if row is None else row.key}")
        for choice in self._choices:
            if choice.key == event.character:
                event.stop()
                self.dismiss(choice.value)
                return

    def action_give_up(self) -> None:
        """Nothing."""
        self.dismiss(None)


def _row(choice: Choice) -> TableRow:
    cells = (
        Cell(choice.key, "title"),
        Cell(plain(choice.label)),
        Cell(plain(choice.detail), "dim"),
    )
    return TableRow(cells, choice.value)
