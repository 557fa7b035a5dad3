"""The jobs: a line each while they wait, run or have failed; hidden when there are none.

Jobs run in threads, one at a time in each lane. A finished job leaves the pane (its outcome goes up
as a message); a failed one stays until it is dismissed.
"""

from __future__ import annotations

import asyncio
from functools import partial

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget
from textual.worker import Worker

from tui.background import Wait
from tui.bridge import Job, JobState, Lane, Reading
from tui.text import fit, plain, size

READINGS_PER_SECOND = 10
_BAR_CELLS = 16
_ROOMY_CELLS = 100
_TITLE_CELLS = 34
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_MARKS = {JobState.QUEUED: "·", JobState.FAILED: "✗"}


class JobLine(Widget):
    """One job: its title, a bar and where it is; or why it failed."""

    class Chosen(Message):
        """The line was clicked."""

        def __init__(self, job: Job) -> None:
            super().__init__()
            self.job = job

    def __init__(self, job: Job) -> None:
        super().__init__(markup=False)
        self.job = job
        self._tick = 0

    def tick(self) -> None:
        """Look at the job again."""
        self._tick += 1
        self.refresh()

    def render(self) -> Content:
        """The line; a failure may take more than one."""
        job = self.job
        hint = self._hint()
        if job.state is JobState.FAILED:
            text = f"{plain(job.title)}: {job.outcome} "
            return Content.assemble(("✗ ", "$error bold"), (text, "$error"), (hint, "$dim"))
        title = fit(plain(job.title), min(_TITLE_CELLS, max(self.size.width // 3, 12)))
        line = Content.assemble((f"{self._mark()} ", "$primary"), title, " ", *self._bar(), " ")
        label, amount = self._where()
        room = self.size.width - line.cell_length - cell_len(amount) - cell_len(hint) - 2
        return Content.assemble(line, amount, " ", fit(label, max(room, 0)), " ", (hint, "$dim"))

    def _mark(self) -> str:
        # Where animation is off (TEXTUAL_ANIMATIONS, tests) the spinner stands still.
        frame = self._tick if self.app.animation_level != "none" else 0
        return _MARKS.get(self.job.state, _SPINNER[frame % len(_SPINNER)])

    def _hint(self) -> str:
        if not self.has_class("-target"):
            return ""
        return "x dismisses" if self.job.state is JobState.FAILED else "x stops"

    def _bar(self) -> list[tuple[str, str]]:
        fraction = self.job.progress.reading.fraction
        cells = _BAR_CELLS if self.size.width >= _ROOMY_CELLS else _BAR_CELLS // 2
        full = round((fraction or 0.0) * cells)
        return [("━" * full, "$primary"), ("━" * (cells - full), "$panel-lighten-1")]

    def _where(self) -> tuple[str, str]:
        """What is being done, which may be cut, and how far, which may not."""
        if self.job.state is not JobState.RUNNING:
            return "", str(self.job.state)
        reading = self.job.progress.reading
        amount = " ".join(part for part in (_percent(reading), _amount(reading)) if part)
        return reading.label, amount

    def on_click(self, event: events.Click) -> None:
        """Make this the line that `x` means."""
        event.stop()
        self.post_message(self.Chosen(self.job))


def _percent(reading: Reading) -> str:
    return "" if reading.fraction is None else f"{reading.fraction:4.0%}"


def _amount(reading: Reading) -> str:
    if reading.unit == "B":
        done, total = size(reading.done), reading.total and size(reading.total)
    else:
        done, total = f"{reading.done:,}", reading.total and f"{reading.total:,} {reading.unit}"
    if total:
        return f"{done} / {total}"
    return done if reading.done else ""


class JobsPane(VerticalScroll, can_focus=False):
    """Runs jobs and shows them."""

    class Ended(Message):
        """A job is over; its state and outcome say how."""

        def __init__(self, job: Job) -> None:
            super().__init__()
            self.job = job

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's word
        super().__init__(id=id)
        self._lanes = {lane: asyncio.Lock() for lane in Lane}
        # Not asked of the DOM: when the program ends, the lines are gone before the jobs are.
        self._lines: dict[Job, JobLine] = {}
        self._target: Job | None = None
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """Empty at first."""
        self.display = False
        yield from ()

    def on_mount(self) -> None:
        """The clock stands still until there is something to look at."""
        self._timer = self.set_interval(1 / READINGS_PER_SECOND, self._tick, pause=True)

    @property
    def jobs(self) -> list[Job]:
        """Every job that has a line."""
        return list(self._lines)

    @property
    def active(self) -> list[Job]:
        """The jobs that wait or run."""
        return [job for job in self.jobs if job.active]

    def submit(self, job: Job) -> None:
        """Show a job and run it when its lane is free."""
        line = self._lines[job] = JobLine(job)
        self.mount(line)
        self.display = True
        self._aim(job)
        self.scroll_end(animate=False)
        if self._timer is not None:
            self._timer.resume()
        run: Wait = partial(self._run, job)
        _worker: Worker[None] = self.run_worker(run, exit_on_error=False)

    def stop_or_dismiss(self) -> None:
        """Stop the job of the line that is aimed at, or let its failure go."""
        job = self._target
        if job is None:
            return
        if job.active:
            job.stop()
        if job.active:
            self._lines[job].tick()
        else:
            self._drop(job)

    def stop_all(self) -> None:
        """Ask every job to end; those that run need a moment for it."""
        for job in self.jobs:
            job.stop()

    async def stop_all_and_wait(self) -> None:
        """End every job: nothing is left half done behind the closed program."""
        self.stop_all()
        while self.active:
            await asyncio.sleep(1 / READINGS_PER_SECOND)

    async def _run(self, job: Job) -> None:
        async with self._lanes[job.lane]:
            if not job.active:
                return  # stopped while it waited
            await asyncio.to_thread(job.run)
        if job.state is JobState.FAILED:
            self._lines[job].add_class("-failed")
        else:
            self._drop(job)
        self.post_message(self.Ended(job))

    def _drop(self, job: Job) -> None:
        self._lines.pop(job).remove()
        self.display = bool(self._lines)
        if self._target is job:
            self._aim(next(reversed(self._lines), None))

    def _aim(self, target: Job | None) -> None:
        self._target = target
        for job, line in self._lines.items():
            line.set_class(job is target, "-target")

    def _tick(self) -> None:
        for line in self._lines.values():
            line.tick()
        if not self.active and self._timer is not None:
            self._timer.pause()

    def on_job_line_chosen(self, message: JobLine.Chosen) -> None:
        """Aim at the clicked line."""
        message.stop()
        self._aim(message.job)

    def on_unmount(self) -> None:
        """Whatever ends the program ends its jobs."""
        self.stop_all()
