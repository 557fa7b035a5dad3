"""The top line: the program, the library, and how much is in it."""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from tui.text import fit


class TitleBar(Widget):
    """The library's name at the left, its totals at the right."""

    library: reactive[str] = reactive("")
    totals: reactive[str] = reactive("")

    def render(self) -> Content:
        """One line; a long library name gives way to the totals."""
        badge = " assetmgr "
        room = self.size.width - len(badge) - len(self.totals) - 3
        return Content.assemble(
            (badge, "$background on $primary bold"),
            (" " + fit(self.library, max(room, 0)) + " ", "$dim"),
            (self.totals + " ", "$foreground bold"),
        )
