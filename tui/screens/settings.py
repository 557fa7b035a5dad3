"""Colours, the settings of `config.toml`, and tokens of services."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import DescendantFocus
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Button, Input, Label, Static

from assetmgr.config import ENVIRONMENT, Given
from converters.errors import AssetmgrError
from tui.background import in_background
from tui.bridge import one_line
from tui.commands import LOGOUT, Commands
from tui.faults import Surviving
from tui.forms import same
from tui.screens.form import Fields, Options
from tui.text import plain
from tui.theme import NAMES

_LABELS = {
    "images": "pictures",
    "preview_base": "preview base",
    "database_url": "database",
    "models": "downloads go to",
    "models_layout": "laid out as for",
    "download_rate": "at most, a second",
    "downloads_at_once": "at once",
    "downloads_per_host": "from one host",
}
_SERVICES = (("hub", "Hub token"), ("civitai", "Civitai token"))
_TOKEN_ABOUT = f"is kept in the keyring, or a file of yours; {LOGOUT} forgets it"
_LATER = "pictures and the database change at the next start"


class SettingsScreen(Surviving, ModalScreen[None]):
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
        # Tables (a base for each family) are for the file itself: here one line each would do harm.
        self._given = tuple(each for each in commands.given_settings if not each.setting.entries)

    def compose(self) -> ComposeResult:
        """A line for each setting."""
        with Vertical(classes="dialog"):
            yield Static(Content("Settings"), classes="dialog-title")
            with Fields(id="fields"):
                yield from _line(
                    "colours", Options(tuple(NAMES.items()), self.app.theme, id="theme")
                )
                for given in self._given:
                    yield from _line(_LABELS.get(given.key, given.key), _widget(given))
                for service, label in _SERVICES:
                    yield from _line(label, _token(service))
            yield Static(id="settings-about", classes="dialog-hint", markup=False)
            yield Static(id="settings-error", markup=False)
            with Horizontal(classes="dialog-buttons"):
                yield Button("Keep (^s)", variant="primary", id="yes", compact=True)
                yield Button("Close (Esc)", id="no", compact=True)

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """What a line is for, in full: in the line there is seldom room for it."""
        abouts = {each.key: each.setting.about for each in self._given}
        abouts |= {f"token-{service}": _TOKEN_ABOUT for service, _ in _SERVICES}
        self.query_one("#settings-about", Static).update(abouts.get(event.widget.id or "", _LATER))

    @on(Options.Changed)
    def _turned(self) -> None:
        self.app.theme = self.query_one("#theme", Options).value

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """The same by mouse."""
        if event.button.id == "yes":
            self.action_keep()
        else:
            self.action_close()

    def on_input_submitted(self) -> None:
        """Enter goes on to the next field."""
        self.focus_next()

    def action_keep(self) -> None:
        """Write the settings down, and keep tokens that were typed."""
        changes = [(each, self._value(each)) for each in self._given]
        wanted = [(each.key, value) for each, value in changes if value != (each.value or None)]
        secrets = [(service, self._secret(service)) for service, _ in _SERVICES]
        typed = [(service, secret) for service, secret in secrets if secret]
        in_background(self, partial(self._keep, wanted, typed), group="settings")

    async def _keep(
        self, wanted: list[tuple[str, str | None]], typed: list[tuple[str, str]]
    ) -> None:
        try:
            for key, value in wanted:
                await asyncio.to_thread(self._commands.change_setting, key, value)
            for service, secret in typed:
                said = await asyncio.to_thread(self._commands.login, service, secret)
                self.notify(plain(said), markup=False)
        except AssetmgrError as error:
            self.query_one("#settings-error", Static).update(Content(one_line(error)))
            return
        self.dismiss(None)

    def _value(self, given: Given) -> str | None:
        widget = self.query_one(f"#{given.key}")
        assert isinstance(widget, Options | Input)
        value = widget.value.strip()
        unset = given.value is None and value == given.setting.default
        if given.origin == ENVIRONMENT or unset or value == plain(given.shown or ""):
            return given.value  # untouched; the variable wins whatever the file says
        return value or None

    def _secret(self, service: str) -> str:
        return self.query_one(f"#token-{service}", Input).value.strip()

    def action_close(self) -> None:
        """Leave the settings as they are."""
        self.dismiss(None)


def _line(label: str, widget: Widget) -> Iterator[Widget]:
    yield Horizontal(Label(label, classes="field-label"), widget, classes="field")


def _widget(given: Given) -> Widget:
    setting = given.setting
    if setting.choices:
        value = given.value or setting.default or ""
        return Options(same(*setting.choices), value, id=given.key)
    return Input(
        plain(given.shown or ""),
        placeholder=setting.about,
        disabled=given.origin == ENVIRONMENT,
        compact=True,
        select_on_focus=False,
        id=given.key,
    )


def _token(service: str) -> Input:
    return Input(placeholder=_TOKEN_ABOUT, password=True, compact=True, id=f"token-{service}")
