"""What is drawn of a screen when some of it changes: no more than that.

Textual has every widget draw itself that lies between the changed ones, and a filter and its list
have most of the screen between them: to draw a letter and its rows took twice as long. There is no
public way to have it otherwise.
"""

from __future__ import annotations

from textual._compositor import ChopsUpdate, Compositor
from textual.geometry import Region
from textual.screen import Screen
from textual.widget import Widget

from tui.faults import Surviving


class FrugalScreen(Surviving, Screen[None]):
    """A screen of which only what has changed is drawn."""

    def __init__(self) -> None:
        super().__init__()
        self._compositor = ChangesOnly()


class ChangesOnly(Compositor):
    """Has only those widgets draw themselves of which something is to be drawn anew."""

    def __init__(self) -> None:
        super().__init__()
        self._changed: tuple[Region, ...] = ()

    def render_partial_update(self) -> ChopsUpdate | None:
        """What has changed."""
        _kept = self.cuts  # of all widgets, and from now on known
        self._changed = tuple(self._dirty_regions)
        try:
            return super().render_partial_update()
        finally:
            self._changed = ()

    @property
    def visible_widgets(self) -> dict[Widget, tuple[Region, Region]]:
        """The widgets to be seen; while changes are drawn, those that have a part in them."""
        seen = super().visible_widgets
        if not self._changed:
            return seen
        return {widget: where for widget, where in seen.items() if self._has_changed(*where)}

    def _has_changed(self, region: Region, clip: Region) -> bool:
        return any(map(region.intersection(clip).overlaps, self._changed))
