"""Every job and every download with its progress, rate, time left and log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen

from tui import keymap
from tui.background import in_background, in_turn
from tui.bridge import Job, JobState, Lane
from tui.commands import Commands
from tui.faults import Surviving
from tui.job_keys import GOING, applies
from tui.jobs import JobQueue
from tui.sections import Section, text
from tui.text import duration, plain, size
from tui.widgets.cursor_list import CursorList
from tui.widgets.facts import Facts
from tui.widgets.footer import Footer
from tui.widgets.table import Cell, Table, TableColumn, TableLines, TableRow
from tui.widgets.title_bar import TitleBar

if TYPE_CHECKING:
    from assetmgr.operations.downloads.flow import FlowReading
    from registry.downloads.records import QueuedDownload

LOOKS_PER_SECOND = 5
QUEUE_SECONDS = 1.0
"""How often the queue of downloads is looked at: others may run and change it too."""
_STYLES = {"done": "good", "failed": "bad", "running": "title"}
_RESTING = frozenset({"paused", "failed"})


class JobsScreen(Surviving, Screen[None]):
    """The newest job is on top; the queue of downloads lies under the jobs."""

    GROUPS: ClassVar = (keymap.MOVE, keymap.JOBS)
    BINDINGS: ClassVar[list[BindingType]] = keymap.JOBS.bindings()

    def __init__(self, commands: Commands, queue: JobQueue) -> None:
        super().__init__()
        self._downloads, self._queue = commands.downloads, queue
        self._queued: tuple[QueuedDownload, ...] = ()
        self._keys: frozenset[str] = frozenset()
        """The actions that were of use when the footer was told last."""

    def compose(self) -> ComposeResult:
        """The jobs over the log of one of them."""
        yield TitleBar("Jobs")
        yield Table(
            TableColumn("State", 8),
            TableColumn("Job", 0),
            TableColumn("Done", 5, right=True),
            TableColumn("Amount", 22, right=True),
            TableColumn("Rate", 12, right=True, from_width=100),
            TableColumn("Left", 10, right=True),
        )
        with VerticalScroll(id="job-log"):
            yield Facts()
        yield Footer()

    def on_mount(self) -> None:
        """Look at the jobs, again and again."""
        self.set_interval(1 / LOOKS_PER_SECOND, self.sync)
        self.set_interval(QUEUE_SECONDS, self._look)
        self.query_one(TableLines).focus()
        self.sync()
        self._look()

    def _look(self) -> None:
        in_background(self, self._list, group="downloads")

    async def _list(self) -> None:
        self._queued = await asyncio.to_thread(self._downloads.list)
        self.sync()

    def sync(self) -> None:
        """Show the jobs and downloads as they are now."""
        now = time.monotonic()
        flows = {flow.id: flow for flow in self._downloads.running}
        rows = [_row(job, now) for job in reversed(self._queue.jobs)]
        rows += [_download_row(each, flows.get(each.id)) for each in self._queued]
        lines = self.query_one(TableLines)
        if list(lines.rows) != rows:
            note = ("Nothing was done yet.", "", "Previews, conversions, scans and downloads")
            stays = None if lines.current is None else lines.current.key
            cursor = next((n for n, row in enumerate(rows) if row.key == stays), None)
            lines.show(rows, (*note, "are listed here while they run and afterwards."), cursor)
        self._show_log()
        self._show_keys()

    def on_table_lines_moved(self) -> None:
        """Another job is under the cursor."""
        self._show_log()
        self._show_keys()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what does something: nothing listed can neither be stopped nor copied."""
        if not self.query(TableLines):  # it is not composed yet
            return False
        if action == "clear":
            ended = any(not job.active for job in self._queue.jobs)
            return ended or any(each.state == "done" for each in self._queued)
        return applies(action, self._current, self._download)

    def _show_keys(self) -> None:
        """Have the footer drawn anew where other keys apply than before."""
        actions = {key.action for key in keymap.JOBS.keys}
        keys = frozenset(action for action in actions if self.check_action(action, ()))
        if keys != self._keys:
            self._keys = keys
            self.refresh_bindings()

    @property
    def _current(self) -> Job | None:
        row = self.query_one(TableLines).current
        return row.key if row is not None and isinstance(row.key, Job) else None

    @property
    def _download(self) -> QueuedDownload | None:
        row = self.query_one(TableLines).current
        number = row.key if row is not None and isinstance(row.key, int) else None
        return next((each for each in self._queued if each.id == number), None)

    def _show_log(self) -> None:
        job, download = self._current, self._download
        sections = () if job is None else tuple(_sections(job))
        if download is not None:
            sections = tuple(_download_sections(download))
        facts = self.query_one(Facts)
        if facts.sections != sections:
            facts.sections = sections

    def _change(self, change: Callable[[int], None], *, run: bool = False) -> None:
        """Do something to the download under the cursor, and look again."""
        if self._download is not None:
            doing = partial(self._changed, partial(change, self._download.id), run)
            in_turn(self, doing, group="change")

    async def _changed(self, change: Callable[[], None], run: bool) -> None:
        await asyncio.to_thread(change)
        if run:
            self.action_run()
        await self._list()

    def on_cursor_list_opened(self, message: CursorList.Opened) -> None:
        """Enter."""
        message.stop()
        self.action_show()

    def action_show(self) -> None:
        """Open what came of the job under the cursor."""
        job = self._current
        if job is not None and job.showable and job.show is not None:
            job.show()

    def action_stop(self) -> None:
        """Stop the job under the cursor, or forget that it failed; cancel the download."""
        if self._current is not None:
            self._queue.stop_or_dismiss(self._current)
        elif self._download is not None and self._download.state != "done":
            self._change(self._downloads.cancel)

    def action_pause(self) -> None:
        """Let it wait, or go on."""
        job, download = self._current, self._download
        if job is not None and not job.pausable:
            self.notify("pause the downloads under it", markup=False)
        elif job is not None and job.state in GOING:
            job.progress.pause(job.state is JobState.RUNNING)
            self.sync()
        elif download is not None and download.state in _RESTING:
            self._change(self._downloads.resume, run=True)
        elif download is not None:
            self._change(self._downloads.pause)

    def action_again(self) -> None:
        """Do what is under the cursor once more."""
        job = self._current
        if job is not None and not job.repeatable:
            self.notify("what failed here cannot be done again from here", markup=False)
        elif job is not None and not job.active:
            self._queue.again(job)
            self.sync()
            self.query_one(TableLines).place(0)  # the new one, which the next keys are about
        elif job is None:
            self._change(self._downloads.resume, run=True)

    def action_run(self) -> None:
        """Run the queue of downloads."""
        from tui.downloads import run_in

        run_in(self._queue, self._downloads)

    def action_first(self) -> None:
        """This download before all others."""
        self._change(self._downloads.first)

    def action_clear(self) -> None:
        """Forget the jobs that have ended, and the downloads that are done."""
        self._queue.clear()
        in_turn(self, self._clear, group="change")
        self.sync()

    async def _clear(self) -> None:
        await asyncio.to_thread(self._downloads.clear)
        await self._list()

    def action_copy(self) -> None:
        """The log to the clipboard."""
        if self._current is not None:
            self.app.copy_to_clipboard("\n".join(self._current.progress.log))
            self.notify("the log is copied", markup=False)

    def action_close(self) -> None:
        """Back."""
        self.dismiss(None)


def _row(job: Job, now: float) -> TableRow:
    reading = job.progress.reading
    rate, left = reading.rate(now), reading.left(now)
    going = job.state is JobState.RUNNING
    unit = f"{size(round(rate))}/s" if rate and reading.unit == "B" else f"{rate or 0:.1f}/s"
    cells = (
        Cell(job.state, _STYLES.get(job.state, "dim")),
        Cell(plain(job.title)),
        Cell(reading.percent if job.active else "", "dim"),
        Cell(reading.amount if job.active else "", "dim"),
        Cell(unit if going and rate else "", "dim"),
        Cell(duration(left) if going and left is not None else _took(job), "dim"),
    )
    return TableRow(cells, job)


def _took(job: Job) -> str:
    return "" if job.active or not job.seconds else duration(job.seconds)


def _sections(job: Job) -> Iterator[Section]:
    style = "$error" if job.state is JobState.FAILED else ""
    rows = [("state", text(job.state))]
    if not job.active:
        rows.append(("outcome", text(job.outcome, style)))
    elif job.progress.reading.label:
        rows.append(("now", text(job.progress.reading.label)))
    if job.showable:
        rows.append(("", text("Enter opens what came of it", "$dim")))
    if job.state is JobState.FAILED and job.lane is not Lane.DOWNLOADS:
        again = "a does it again, " if job.repeatable else ""
        rows.append(("", text(f"{again}x forgets it", "$dim")))
    yield Section(plain(job.title), tuple(rows))
    log = tuple(job.progress.log)
    if log:
        yield Section("Log", tuple(("", Content(line)) for line in log))


def _download_row(download: QueuedDownload, flow: FlowReading | None) -> TableRow:
    done, total = download.received, download.wanted.bytes
    if flow is not None:
        done, total = flow.done, flow.total or total
    far = f"{size(done)} / {size(total)}" if total else size(done) if done else ""
    rate = f"{size(round(flow.rate))}/s" if flow is not None and flow.rate >= 1 else ""
    left = duration(flow.left) if flow is not None and flow.left is not None else ""
    going = download.state in {"running", "paused"}
    cells = (
        Cell(download.state, _STYLES.get(download.state, "dim")),
        Cell(plain(f"  {download.wanted.label}")),
        Cell(f"{min(done / total, 1):4.0%}" if total and going else "", "dim"),
        Cell(far if going or download.state == "queued" else "", "dim"),
        Cell(rate, "dim"),
        Cell(left, "dim"),
    )
    return TableRow(cells, download.id)


def _download_sections(download: QueuedDownload) -> Iterator[Section]:
    wanted, trouble, arrival = download.wanted, download.trouble, download.arrival
    facts = [
        ("state", text(", ".join(filter(None, (download.state, download.wish))))),
        ("from", text(f"{wanted.service}, {wanted.host}")),
        ("size", text(size(wanted.bytes))),
        ("sha256", text(wanted.sha256 or "not told")),
        ("licence", text(wanted.licence or "not told")),
    ]
    if arrival is not None:
        facts.append(("is", text(f"{arrival.path}  #{arrival.asset}", "$success")))
    if trouble is not None and download.state == "failed":
        facts.append(("failed", text(trouble.error, "$error")))
        hint = trouble.hint or ("a tries again" if trouble.passing else "x forgets it")
        facts.append(("", text(hint, "$dim")))
    yield Section(plain(wanted.label), tuple(facts))
