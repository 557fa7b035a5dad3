"""Colours, pictures, and the checkpoint that previews are rendered on."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Static

from assetmgr.config import IMAGES
from converters.errors import AssetmgrError
from tui.bridge import one_line
from tui.commands import Commands
from tui.forms import same
from tui.screens.form import Options
from tui.theme import NAMES


class SettingsScreen(ModalScreen[None]):
    """The theme changes at once; the others are written down when the dialog is kept."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "close", show=False),
        Binding("ctrl+s", "keep", "keep", show=False, priority=True),
        Binding("down", "app.focus_next", show=False),
        Binding("up", "app.focus_previous", show=False),
    ]

    def __init__(self, commands: Commands) -> None:
        super().__init__()
        self._commands = commands

    def compose(self) -> ComposeResult:
        """A line for each setting."""
        settings = self._commands.settings
        themes = tuple(NAMES.items())
        with Vertical(classes="dialog"):
            yield Static(Content("Settings"), classes="dialog-title")
            with Horizontal(classes="field"):
                yield Label("colours", classes="field-label")
                yield Options(themes, self.app.theme, id="theme")
            with Horizontal(classes="field"):
                yield Label("pictures", classes="field-label")
                yield Options(same(*IMAGES), settings.images, id="images")
            with Horizontal(classes="field"):
                yield Label("preview base", classes="field-label")
                yield Input(
                    settings.preview_base or "",
                    placeholder="path, #ID, hash or name; empty: the most complete checkpoint",
                    compact=True,
                    select_on_focus=False,
                    id="preview_base",
                )
            yield Static(id="settings-error", markup=False)
            yield Static("pictures change at the next start", classes="dialog-hint")
            with Horizontal(classes="dialog-buttons"):
                yield Button("Keep (^s)", variant="primary", id="yes", compact=True)
                yield Button("Close (Esc)", id="no", compact=True)

    @on(Options.Changed)
    def _turned(self) -> None:
        self.app.theme = self.query_one("#theme", Options).value

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """The same by mouse."""
        if event.button.id == "yes":
            self.action_keep()
        else:
            self.action_close()

    def action_keep(self) -> None:
        """Write the settings down."""
        base = self.query_one("#preview_base", Input).value.strip()
        try:
            self._commands.change_setting("images", self.query_one("#images", Options).value)
            self._commands.change_setting("preview_base", base or None)
        except AssetmgrError as error:
            self.query_one("#settings-error", Static).update(Content(one_line(error)))
            return
        self.dismiss(None)

    def action_close(self) -> None:
        """Leave the settings as they are."""
        self.dismiss(None)
