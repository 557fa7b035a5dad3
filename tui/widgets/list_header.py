"""The titles over the list: they show the order, and a click changes it."""

from __future__ import annotations

from textual import events
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive

from tui.columns import Placed, placed
from tui.faults import Part
from tui.text import fit


class ListHeader(Part):
    """Column titles with an arrow on the one the list is sorted by."""

    class SortChosen(Message):
        """A title was clicked."""

        def __init__(self, sort: str) -> None:
            super().__init__()
            self.sort = sort

    order: reactive[str] = reactive("name")
    """A sort word, with "-" for descending."""

    def render(self) -> Content:
        """One line of titles."""
        parts = [Content(" ")]
        for place in self._places():
            parts += (self._title(place), Content("  "))
        return Content.assemble(*parts)

    def _places(self) -> tuple[Placed, ...]:
        # The list under it gives one cell to its scroll bar.
        return placed(self.size.width - 1)

    def _title(self, place: Placed) -> Content:
        column = place.column
        if column.sort != self.order.removeprefix("-"):
            return Content(fit(column.title, place.width, right=column.right))
        arrow = "▼" if self.order.startswith("-") else "▲"
        title = arrow if place.width == 1 else f"{column.title} {arrow}"
        return Content.styled(fit(title, place.width, right=column.right), "$primary bold")

    def on_click(self, event: events.Click) -> None:
        """Sort by the column under the pointer."""
        for place in self._places():
            if place.column.sort and place.start <= event.x < place.start + place.width + 2:
                self.post_message(self.SortChosen(place.column.sort))
                return
