"""The kind tabs with their counts, on one line."""

from __future__ import annotations

from textual import events
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive

from tui.faults import Part
from tui.query import TABS


class KindTabs(Part):
    """All, Checkpoints, LoRAs … with the number of assets in each."""

    class Chosen(Message):
        """A tab was clicked."""

        def __init__(self, tab: int) -> None:
            super().__init__()
            self.tab = tab

    active: reactive[int] = reactive(0)
    counts: reactive[tuple[int, ...]] = reactive((0,) * len(TABS))

    def render(self) -> Content:
        """The tabs; with short words where the line is too narrow for the full ones."""
        return Content.assemble(*(self._tab(n, label) for n, label in enumerate(self._labels())))

    def _labels(self) -> list[str]:
        tabs = list(zip(TABS, self.counts, strict=True))
        full = [f" {tab.title} {count:,} " for tab, count in tabs]
        if sum(map(len, full)) <= self.size.width:
            return full
        return [f" {tab.short} {count:,} " for tab, count in tabs]

    def _tab(self, number: int, label: str) -> Content:
        if number == self.active:
            return Content.styled(label, "$background on $primary bold")
        return Content.styled(label, "$foreground" if self.counts[number] else "$faint")

    def on_click(self, event: events.Click) -> None:
        """Choose the tab under the pointer."""
        end = 0
        for number, label in enumerate(self._labels()):
            end += len(label)
            if event.x < end:
                self.post_message(self.Chosen(number))
                return
