"""The top line: the program, where one is, and how much is there."""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive

from tui.faults import Part
from tui.text import fit


class TitleBar(Part):
    """The name of the place at the left, its totals at the right."""

    place: reactive[str] = reactive("")
    totals: reactive[str] = reactive("")

    def __init__(self, place: str = "") -> None:
        super().__init__()
        self.set_reactive(TitleBar.place, place)

    def render(self) -> Content:
        """One line; a long name gives way to the totals."""
        badge = " assetmgr "
        room = self.size.width - len(badge) - len(self.totals) - 3
        return Content.assemble(
            (badge, "$background on $primary bold"),
            (" " + fit(self.place, max(room, 0)) + " ", "$dim"),
            (self.totals + " ", "$foreground bold"),
        )
