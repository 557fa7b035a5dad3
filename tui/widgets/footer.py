"""The keys that apply, at the foot of a screen: Textual's footer without what it does twice."""

from __future__ import annotations

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Footer as TextualFooter
from textual.widgets._footer import FooterKey

from tui.faults import Surviving

_AROUND, _BEHIND = 3, 1
"""Blank cells of a key, and those of them behind it, which may be cut off."""


class Footer(Surviving, TextualFooter):
    """Is made anew only for other keys, each of them styled once, and shows only whole ones.

    Textual's keys are compact at first and then not, which styles each two times more; and it makes
    all of them anew whenever the keyboard goes elsewhere, also where the same keys apply there.
    """

    def __init__(self) -> None:
        super().__init__(show_command_palette=False)
        self._made: tuple[object, ...] | None = None
        self._width = 0

    def compose(self) -> ComposeResult:
        """A key after the other, as long as there is room."""
        self._width = room = self.app.size.width
        for key in super().compose():
            if isinstance(key, FooterKey):
                key.set_reactive(FooterKey.compact, self.compact)
                room -= cell_len(key.key_display) + cell_len(key.description) + _AROUND
            if room < -_BEHIND:
                return
            yield key

    def on_resize(self) -> None:
        """Perhaps there is room for more keys, or less."""
        if self.app.size.width != self._width:
            self._width = self.app.size.width
            self.call_after_refresh(self.recompose)

    def bindings_changed(self, screen: Screen[object]) -> None:
        """Perhaps other keys apply."""
        active = screen.active_bindings.values()
        shown = tuple((each.binding, each.enabled) for each in active if each.binding.show)
        if shown != self._made and screen.app.app_focus:
            self._made = shown
            super().bindings_changed(screen)
