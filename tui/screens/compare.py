"""How two files differ, tensor by tensor."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Static

from tui.faults import Surviving
from tui.text import count, plain
from tui.widgets.footer import Footer
from tui.widgets.table import Cell, Table, TableColumn, TableLines, TableRow
from tui.widgets.title_bar import TitleBar

if TYPE_CHECKING:
    from assetmgr.operations.diff import Comparison


class CompareScreen(Surviving, Screen[None]):
    """The components over the tensors that differ."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,equals_sign", "close", "back", key_display="Esc"),
    ]

    def __init__(self, comparison: Comparison) -> None:
        super().__init__()
        self._comparison = comparison

    def compose(self) -> ComposeResult:
        """What is the same in short, what is not by name."""
        found = self._comparison
        a, b = (plain(PurePath(path).name) for path in (found.a, found.b))
        yield TitleBar(f"{a}  against  {b}")
        yield Static(_summary(found), markup=False, id="summary")
        yield Table(TableColumn("Tensor", 0), TableColumn("Differs", 34))
        yield Footer()

    def on_mount(self) -> None:
        """The differences."""
        found = self._comparison
        self.query_one(TitleBar).totals = count(len(found.differences), "difference")
        lines = self.query_one(TableLines)
        note = ("Both hold the same tensors.",)
        rows = [
            TableRow((Cell(plain(each.name), both_ends=True), Cell(plain(each.how), "dim")))
            for each in found.differences
        ]
        lines.show(rows, note)
        lines.focus()

    def action_close(self) -> None:
        """Back."""
        self.dismiss(None)


def _summary(found: Comparison) -> str:
    parts = (
        f"{part.name}: {part.different:,} differ, {part.same:,} same" for part in found.components
    )
    unlike = (f"{name}: in other tensors, not compared" for name in found.unlike)
    return plain(" · ".join((*parts, *unlike))) or "no tensors"
