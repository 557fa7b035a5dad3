"""The first start: folders of models that other programs have here, offered to be scanned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from tui.faults import Surviving
from tui.text import count, plain
from tui.widgets.cursor_list import CursorList
from tui.widgets.table import Cell, TableColumn, TableLines, TableRow

if TYPE_CHECKING:
    from assetmgr.operations.installed import ModelFolder

_MOST_LINES = 10


class WelcomeScreen(Surviving, ModalScreen[tuple[str, ...]]):
    """Gives the folders that shall be scanned; none for later."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "choose", "choose", show=False),
        Binding("tab", "app.focus_next", show=False),
        Binding("escape", "later", "later", show=False),
    ]

    def __init__(self, folders: Sequence[ModelFolder]) -> None:
        super().__init__()
        self._folders = tuple(folders)
        self._chosen = {str(folder.path) for folder in folders}

    def compose(self) -> ComposeResult:
        """What was found, a line for another folder, what the keys do."""
        found = self._folders
        said = (
            "These folders of models are on this machine. Scanning only reads them."
            if found
            else "No other program's models were found. Which folder has yours?"
        )
        columns = (
            TableColumn("", 3),
            TableColumn("", 16),
            TableColumn("", 0),
            TableColumn("", 11, True),
        )
        with Vertical(classes="dialog"):
            yield Static(Content("Welcome"), classes="dialog-title")
            yield Static(Content(said), classes="dialog-body")
            if found:
                lines = TableLines(columns, id="folders")
                lines.styles.height = min(len(found), _MOST_LINES)
                yield lines
            which = "another folder" if found else "a folder, such as ~/models"
            yield Input(placeholder=which, compact=True, id="folder")
            among = "Space chooses · Enter scans · Tab: another folder" if found else "Enter scans"
            yield Static(f"{among} · Esc: later (R scans)", classes="dialog-hint")

    def on_mount(self) -> None:
        """The folders."""
        self._show()
        self.query_one(TableLines if self._folders else Input).focus()

    def _show(self) -> None:
        rows = [
            TableRow(
                (
                    Cell("[x]" if str(folder.path) in self._chosen else "[ ]", "title"),
                    Cell(folder.program),
                    Cell(plain(str(folder.path)), "dim", both_ends=True),
                    Cell(count(folder.files, "file"), "dim"),
                ),
                str(folder.path),
            )
            for folder in self._folders
        ]
        for lines in self.query(TableLines):
            lines.show(rows)

    def action_choose(self) -> None:
        """Choose the folder under the cursor, or not."""
        row = next((lines.current for lines in self.query(TableLines)), None)
        if row is not None:
            self._chosen ^= {str(row.key)}
            self._show()

    # Not by a key of the screen, which would overtake the last letters of a name.
    @on(CursorList.Opened)
    @on(Input.Submitted)
    def _scan(self) -> None:
        """These folders."""
        other = self.query_one(Input).value.strip()
        chosen = [str(f.path) for f in self._folders if str(f.path) in self._chosen]
        self.dismiss((*chosen, *([other] if other else [])))

    def action_later(self) -> None:
        """None."""
        self.dismiss(())
