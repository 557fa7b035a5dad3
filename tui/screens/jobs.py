"""Every job with its progress, rate, time left and log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer

from tui import keymap
from tui.bridge import Job, JobState
from tui.jobs import JobQueue
from tui.sections import Section, text
from tui.text import amount, duration, percent, plain, size
from tui.widgets.facts import Facts
from tui.widgets.table import Cell, Table, TableColumn, TableLines, TableRow
from tui.widgets.title_bar import TitleBar

LOOKS_PER_SECOND = 5
_STYLES = {JobState.DONE: "good", JobState.FAILED: "bad", JobState.RUNNING: "title"}


class JobsScreen(Screen[None]):
    """The newest job is on top."""

    GROUPS: ClassVar = (keymap.MOVE, keymap.JOBS)
    BINDINGS: ClassVar[list[BindingType]] = keymap.JOBS.bindings()

    def __init__(self, queue: JobQueue) -> None:
        super().__init__()
        self._queue = queue

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
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Look at the jobs, again and again."""
        self.set_interval(1 / LOOKS_PER_SECOND, self.sync)
        self.query_one(TableLines).focus()
        self.sync()

    def sync(self) -> None:
        """Show the jobs as they are now."""
        now = time.monotonic()
        rows = [_row(job, now) for job in reversed(self._queue.jobs)]
        lines = self.query_one(TableLines)
        if list(lines.rows) != rows:
            note = ("Nothing was done yet.", "", "Previews, conversions, scans and downloads")
            lines.show(rows, (*note, "are listed here while they run and afterwards."))
        self._show_log()

    def on_table_lines_moved(self) -> None:
        """Another job is under the cursor."""
        self._show_log()

    @property
    def _current(self) -> Job | None:
        row = self.query_one(TableLines).current
        return row.key if row is not None and isinstance(row.key, Job) else None

    def _show_log(self) -> None:
        job = self._current
        sections = () if job is None else tuple(_sections(job))
        facts = self.query_one(Facts)
        if facts.sections != sections:
            facts.sections = sections

    def action_stop(self) -> None:
        """Stop the job under the cursor, or forget that it failed."""
        if self._current is not None:
            self._queue.stop_or_dismiss(self._current)

    def action_pause(self) -> None:
        """Let the job wait at its next report, or go on."""
        job = self._current
        if job is not None and job.state in {JobState.RUNNING, JobState.PAUSED}:
            job.progress.pause(job.state is JobState.RUNNING)
            self.sync()

    def action_again(self) -> None:
        """Do the job under the cursor once more."""
        if self._current is not None:
            self._queue.again(self._current)

    def action_clear(self) -> None:
        """Forget the jobs that have ended."""
        self._queue.clear()
        self.sync()

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
        Cell(percent(reading) if job.active else "", "dim"),
        Cell(amount(reading) if job.active else "", "dim"),
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
    yield Section(plain(job.title), tuple(rows))
    log = tuple(job.progress.log)
    if log:
        yield Section("Log", tuple(("", Content(line)) for line in log))
