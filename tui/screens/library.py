"""The library screen: what the keys do with the selected asset, and the jobs they start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen
from textual.widgets import Footer

from registry.records import Asset, AssetRow
from tui import keymap
from tui.background import Failed, in_background
from tui.bridge import Job, JobState, Lane
from tui.commands import Commands, Conversion
from tui.images import MakePicture
from tui.screens.confirm import ConfirmScreen
from tui.screens.help import HelpScreen
from tui.screens.tags import TagsScreen
from tui.text import count, plain
from tui.widgets.asset_list import AssetList
from tui.widgets.browser import Browser
from tui.widgets.details import Details
from tui.widgets.filter_bar import FilterInput
from tui.widgets.jobs_pane import JobsPane
from tui.widgets.title_bar import TitleBar

Severity = Literal["information", "warning", "error"]


class LibraryScreen(Screen[None]):
    """Everything at once; dialogs come over it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        binding for group in keymap.SCREEN for binding in group.bindings()
    ]
    AUTO_FOCUS = "AssetList"

    def __init__(self, commands: Commands, make_picture: MakePicture | None) -> None:
        super().__init__()
        self._make_picture = make_picture
        self._commands = commands
        self._copied: tuple[int, str] | None = None

    def compose(self) -> ComposeResult:
        """Top to bottom."""
        yield TitleBar()
        yield Browser(self._commands, beside=Details(self._commands, self._make_picture))
        yield JobsPane()
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Open the library."""
        self.query_one(TitleBar).library = plain(self._commands.library_name)
        self._browser.reload()

    @property
    def jobs(self) -> JobsPane:
        """The background jobs."""
        return self.query_one(JobsPane)

    @property
    def _browser(self) -> Browser:
        return self.query_one(Browser)

    @property
    def _details(self) -> Details:
        return self.query_one(Details)

    def _say(self, sentence: str, severity: Severity = "information") -> None:
        self.notify(sentence, severity=severity, markup=False)

    @on(Failed)
    def _failed(self, message: Failed) -> None:
        self._say(message.sentence, "error")

    @on(Browser.Counted)
    def _counted(self, message: Browser.Counted) -> None:
        self.query_one(TitleBar).totals = count(message.total, "asset")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While the filter is typed, `/` is a letter."""
        return not (action == "focus_filter" and isinstance(self.focused, FilterInput))

    # ---- finding

    def action_focus_filter(self) -> None:
        """Type a filter."""
        self._browser.start_filter()

    def action_clear_filter(self) -> None:
        """Back to the list; there, empty the filter."""
        if not isinstance(self.focused, AssetList):
            self.remove_class("-reading")
            self._browser.focus_list()
        else:
            self._browser.clear_filter()

    def action_turn_tab(self, steps: int) -> None:
        """The kind at the right or left."""
        self._browser.turn_tab(steps)

    def action_sort(self, by: str) -> None:
        """In this order, or the other way round."""
        self._browser.sort(by)

    @on(AssetList.Highlighted)
    def _selected(self, message: AssetList.Highlighted) -> None:
        self._details.load(message.row)

    @on(AssetList.Opened)
    def _opened(self) -> None:
        self.add_class("-reading")
        self._details.start_reading()

    # ---- acting on the selected asset

    def _with_asset(self, act: Callable[[Asset], None]) -> None:
        """Do something with the asset under the cursor, whose details may still be on their way."""
        row, shown = self._browser.current, self._details.asset
        if row is not None and shown is not None and shown.id == row.id:
            act(shown)
        elif row is not None:
            in_background(self, partial(self._fetched, row.id, act), group="asset")

    async def _fetched(self, asset_id: int, act: Callable[[Asset], None]) -> None:
        act(await asyncio.to_thread(self._commands.asset, asset_id))

    def action_copy_hash(self) -> None:
        """AutoV2 first (what the sites search by), SHA-256 when pressed again."""
        self._with_asset(self._copy_hash)

    def _copy_hash(self, asset: Asset) -> None:
        name = "sha256" if self._copied == (asset.id, "autov2") else "autov2"
        digest = asset.hashes.get(name)
        if digest is None:
            self._say("no hash is known: rescan (r)", "warning")
            return
        self._copied = (asset.id, name)
        self.app.copy_to_clipboard(digest)
        self._say(f"{name} copied: {digest}")

    def action_tags(self) -> None:
        """Edit the tags in a dialog."""
        self._with_asset(self._edit_tags)

    def _edit_tags(self, asset: Asset) -> None:
        self.app.push_screen(
            TagsScreen(plain(asset.name), asset.tags), partial(self._retag, asset.id)
        )

    def _retag(self, asset_id: int, tags: tuple[str, ...] | None) -> None:
        if tags is not None:
            in_background(self, partial(self._keep_tags, asset_id, tags), group="tags")

    async def _keep_tags(self, asset_id: int, tags: tuple[str, ...]) -> None:
        await asyncio.to_thread(self._commands.retag, asset_id, tags)
        self._browser.reload()

    def action_preview(self) -> None:
        """Render a preview in the background."""
        row = self._browser.current
        if row is not None:
            work = partial(self._commands.preview, row.id)
            self.jobs.submit(Job(f"Preview of {row.name}", Lane.RENDER, work))

    def action_convert(self) -> None:
        """Plan a conversion and ask before it goes."""
        row = self._browser.current
        if row is not None:
            in_background(self, partial(self._plan, row), group="plan")

    async def _plan(self, row: AssetRow) -> None:
        plan = await asyncio.to_thread(self._commands.plan_conversion, row.id)
        title = f"Convert {plain(row.name)}"
        self.app.push_screen(
            ConfirmScreen(title, plan.sections, "Convert"), partial(self._convert, plan)
        )

    def _convert(self, plan: Conversion, go: bool | None) -> None:
        if go:
            self.jobs.submit(Job(plan.title, Lane.DISK, plan.work))

    # ---- jobs

    def action_rescan(self) -> None:
        """Look through the library's folders again."""
        self.jobs.submit(Job("Scan of the library", Lane.DISK, self._commands.rescan))

    def action_stop_job(self) -> None:
        """Stop the job that is aimed at, or dismiss its failure."""
        self.jobs.stop_or_dismiss()

    @on(JobsPane.Ended)
    def _job_ended(self, message: JobsPane.Ended) -> None:
        job = message.job
        if job.state is JobState.FAILED:
            self._say(f"{plain(job.title)} failed", "error")
        else:
            self._say(f"{plain(job.title)}: {job.outcome}")
        self._browser.reload()

    def action_help(self) -> None:
        """The keys."""
        self.app.push_screen(HelpScreen())
