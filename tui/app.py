"""The terminal program: one application over a workspace."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType

from assetmgr.workspace import Workspace
from tui.commands import Commands
from tui.images import picture_widget
from tui.screens.confirm import ConfirmScreen
from tui.screens.library import LibraryScreen
from tui.sections import Section, text
from tui.text import count
from tui.theme import SHADES, THEME


class AssetManagerApp(App[None]):
    """Browse the library, look at assets, start previews and conversions.

    `commands` replaces what the keys really do; tests pass `tui.testing.ScriptedCommands`.
    """

    TITLE = "assetmgr"
    CSS_PATH = "styles.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide"), (160, "-widest")]  # noqa: RUF012
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q,ctrl+c", "quit", "quit", show=False, priority=True)
    ]

    def __init__(self, workspace: Workspace, commands: Commands | None = None) -> None:
        super().__init__()
        if self.no_color:
            # Textual takes NO_COLOR out of the environment; the processes we start heed it too.
            os.environ["NO_COLOR"] = "1"
        self.register_theme(THEME)
        self.theme = THEME.name
        self._library_screen = LibraryScreen(
            commands or Commands(workspace), picture_widget(workspace.settings.images)
        )

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Our shades, known to the style sheet from its first reading on."""
        return SHADES

    def on_mount(self) -> None:
        """Show the library."""
        if not self.is_headless:
            self._heed_signals()
        self.push_screen(self._library_screen)

    def _heed_signals(self) -> None:
        """Being terminated gives the terminal back and stops the jobs, where signals are known."""
        loop = asyncio.get_running_loop()
        for name in ("SIGTERM", "SIGHUP"):
            with suppress(NotImplementedError, AttributeError):
                loop.add_signal_handler(getattr(signal, name), self.exit)

    async def action_quit(self) -> None:
        """Leave; running jobs are stopped first, if the user agrees."""
        active = self._library_screen.jobs.active
        if not active:
            self.exit()
            return
        if isinstance(self.screen, ConfirmScreen):
            return
        rows = tuple(("", text(job.title)) for job in active)
        plan = (Section(f"{count(len(active), 'job')} not finished", rows),)
        self.push_screen(ConfirmScreen("Leave now?", plan, "Stop and leave"), self._stop_and_leave)

    def _stop_and_leave(self, leave: bool | None) -> None:
        if leave:
            self.run_worker(self._leave(), exit_on_error=False)

    async def _leave(self) -> None:
        await self._library_screen.jobs.stop_all_and_wait()
        self.exit()


def run_tui(workspace: Workspace) -> None:
    """Run the program until the user leaves it; the workspace stays the caller's to close."""
    commands = Commands(workspace)
    try:
        AssetManagerApp(workspace, commands).run()
    finally:
        commands.close()
