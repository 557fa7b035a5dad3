"""The terminal program: one application over a workspace.

Screens other than the library are imported when they are opened: the first frame waits for none.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar, cast

from textual import events
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Input
from textual.worker import WorkerFailed

from assetmgr.operations.preferences import Preferences
from assetmgr.workspace import Workspace
from converters.errors import AssetmgrError
from registry.text import storable
from tui import faults, keymap
from tui.background import Failed
from tui.bridge import Job, JobState, Lane, one_line
from tui.commands import Commands
from tui.garbage import Garbage
from tui.images import picture_widget
from tui.jobs import JobEnded, JobQueue, JobsChanged, ShowsJobs, ShowsLibrary
from tui.palette import KeyCommands
from tui.query import TABS
from tui.screens.library import LibraryScreen
from tui.sections import Section, text
from tui.text import count, plain
from tui.theme import DARK, SHADES, THEMES
from tui.typing_ahead import TypingAhead
from tui.widgets.jobs_pane import JobsPane


class AssetManagerApp(TypingAhead):
    """Browse the library, look at assets, do with them whatever the program can.

    `commands` replaces what the keys really do; tests pass `tui.testing.ScriptedCommands`.
    """

    TITLE = "assetmgr"
    CSS_PATH = "styles.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide"), (160, "-widest")]  # noqa: RUF012
    COMMANDS: ClassVar = {KeyCommands}
    COMMAND_PALETTE_BINDING = "ctrl+p"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q,ctrl+c", "quit", "quit", show=False, priority=True),
        Binding("question_mark", "help", "help", show=False),
        Binding("colon", "command_palette", "commands", show=False),
    ]

    def __init__(self, workspace: Workspace, commands: Commands | None = None) -> None:
        super().__init__()
        if self.no_color:
            # Textual takes NO_COLOR out of the environment; the processes we start heed it too.
            os.environ["NO_COLOR"] = "1"
        self._commands = commands or Commands(workspace)
        known = self._commands.preferences()
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = known.theme if known.theme in {t.name for t in THEMES} else DARK.name
        self.left: Preferences | None = None
        self.ended_by: Exception | None = None
        self.queue = JobQueue(self)
        self._garbage = Garbage()
        self._library_screen = LibraryScreen(
            self._commands, self.queue, picture_widget(workspace.settings.images), known
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

    @property
    def preferences(self) -> Preferences:
        """What the next start shall begin with."""
        library = self._library_screen
        view = library.view
        return replace(
            library.preferences,
            theme=self.theme,
            kind=TABS[view.tab].kind or "",
            query=view.text,
            sort=view.order,
            facets=library.shows_facets,
            tiles=library.shows_tiles,
            row=library.place.row,
            asset=library.place.asset,
            line=library.line,
        )

    def on_failed(self, message: Failed) -> None:
        """Something asked in the background failed, on whatever screen."""
        self._garbage.begin()  # else nobody would where the library cannot be counted
        self.notify(message.sentence, severity="error", markup=False)

    def _handle_exception(self, error: Exception) -> None:
        """Every fault of the program arrives here: it can be read where jobs are.

        Without a library there is nothing to go on with: then it ends, and `run_tui` raises it.
        """
        if isinstance(error, WorkerFailed):
            error = cast("Exception", error.error)
        unfit = faults.begun(error)
        if self._library_screen.is_mounted and unfit is not self._library_screen:
            self._replace(unfit, faults.drawn(error))
            self._tell(error)
        else:
            self.ended_by = self.ended_by or error
            super()._handle_exception(error)

    def _fatal_error(self) -> None:
        """End without Textual's traceback, of a screenful for each frame."""
        self._close_messages_no_wait()

    def _tell(self, error: Exception) -> None:
        if self.queue.keep_fault(error):
            self._commands.note_fault(error)
            said = plain(f"{type(error).__name__}: {error}")
            self.notify(f"{said} (J tells more)", title="a fault", severity="error", markup=False)

    def _replace(self, unfit: Widget | None, undrawn: Widget | None) -> None:
        """Have something in the place of what cannot be shown."""
        if isinstance(unfit, Screen):
            self.call_later(self._close, unfit)
        elif unfit is not None:
            faults.stand_in(unfit)
        elif undrawn is not None:
            faults.guard(undrawn)

    def _close(self, screen: Screen[Any]) -> None:
        if self.screen is screen:
            self.pop_screen()

    def on_browser_counted(self) -> None:
        """All is there that stays."""
        self._garbage.begin()

    async def on_event(self, event: events.Event) -> None:
        """As in Textual; who types shall not wait for garbage."""
        if isinstance(event, events.Key):
            self._garbage.put_off()
        await super().on_event(event)

    def copy_to_clipboard(self, text: str) -> None:
        """Paths may have no UTF-8 form, which a clipboard needs: those are copied as they read."""
        super().copy_to_clipboard(text if storable(text) else plain(text))

    # ---- jobs

    def on_jobs_changed(self, message: JobsChanged) -> None:
        """Every screen that shows jobs looks again."""
        for screen in self.screen_stack:
            if isinstance(screen, ShowsJobs):
                screen.sync()
            for pane in screen.query(JobsPane):
                pane.sync()

    def on_job_ended(self, message: JobEnded) -> None:
        """Say what became of it; the library may have changed."""
        job = message.job
        if job.fault is not None:
            self._commands.note_fault(job.fault)
        if job.state is JobState.FAILED:
            self.notify(f"{plain(job.title)} failed", severity="error", markup=False)
        elif job.showable and not self._is_busy:
            self._show(job)
        elif job.showable:
            self.notify(f"{plain(job.title)}: {job.outcome} (J, Enter shows it)", markup=False)
        elif job.then is None or job.lane is Lane.DOWNLOADS or job.state is not JobState.DONE:
            self.notify(f"{plain(job.title)}: {job.outcome}", markup=False)
        if job.lane is not Lane.LOOK:
            self.on_library_changed()

    @property
    def _is_busy(self) -> bool:
        """Whether a screen that opens by itself would come between a user and what is typed."""
        return isinstance(self.screen, ModalScreen) or isinstance(self.focused, Input)

    def _show(self, job: Job) -> None:
        if job.show is not None:
            job.show()

    def on_library_changed(self) -> None:
        """A job has put something into the library."""
        for screen in self.screen_stack:
            if isinstance(screen, ShowsLibrary) and screen.is_attached:
                screen.reload()

    # ---- screens

    def action_help(self) -> None:
        """The keys of the present screen, and those of the program."""
        from tui.screens.help import HelpScreen

        groups = getattr(self.screen, "GROUPS", keymap.GROUPS)
        self.push_screen(HelpScreen(groups))

    def action_jobs(self) -> None:
        """The jobs."""
        from tui.screens.jobs import JobsScreen

        self.push_screen(JobsScreen(self._commands, self.queue))

    def action_hub(self) -> None:
        """Civitai and the Hub."""
        from tui.screens.hub import HubScreen

        self.push_screen(HubScreen(self._commands, self.queue), self._find)

    def _find(self, query: str | None) -> None:
        if query is not None:
            self._library_screen.find(query)

    def action_settings(self) -> None:
        """Colours, pictures, the base of previews."""
        from tui.screens.settings import SettingsScreen

        try:
            self.push_screen(SettingsScreen(self._commands))
        except AssetmgrError as error:  # of a file of settings that was changed meanwhile
            self.on_failed(Failed(one_line(error)))

    # ---- leaving

    def exit(self, *given: Any, **more: Any) -> None:
        """Leave; how the screens look is noted while they are there."""
        if self._library_screen.is_attached:
            self.left = self.preferences
        super().exit(*given, **more)

    async def action_quit(self) -> None:
        """Leave; running jobs are stopped first, if the user agrees."""
        from tui.screens.confirm import ConfirmScreen

        active = self.queue.active
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
        await self.queue.stop_all_and_wait()
        self.exit()

    def on_unmount(self) -> None:
        """Whatever ends the program ends its jobs, and leaves word for the next start."""
        self.queue.stop_all()


def run_tui(workspace: Workspace) -> int:
    """Run the program until the user leaves it; the workspace stays the caller's to close.

    Gives the exit code. Raises what kept the library from the screen.
    """
    commands = Commands(workspace)
    app = AssetManagerApp(workspace, commands)
    try:
        app.run()
    finally:
        commands.close()
        if app.left is not None:
            with suppress(AssetmgrError):  # the next start begins as the first one did
                commands.keep(app.left)
    if app.ended_by is not None:
        raise app.ended_by
    return app.return_code or 0
