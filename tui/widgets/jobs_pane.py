"""The jobs at the foot of a screen: a line each while they wait, run or have failed.

A finished job leaves the pane (its outcome is told in a notification); a failed one stays until it
is dismissed. The pane is hidden when there is nothing to show.
"""

from __future__ import annotations

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.timer import Timer

from tui.bridge import Job, JobState
from tui.faults import Part, Surviving
from tui.jobs import JobQueue
from tui.text import fit, plain

READINGS_PER_SECOND = 10
_BAR_CELLS = 16
_ROOMY_CELLS = 100
_TITLE_CELLS = 34
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_MARKS = {JobState.QUEUED: "·", JobState.FAILED: "✗", JobState.PAUSED: "‖"}


class JobLine(Part):
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
        self.set_class(self.job.state is JobState.FAILED, "-failed")
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
        label, far = self._where()
        room = self.size.width - line.cell_length - cell_len(far) - cell_len(hint) - 2
        return Content.assemble(line, far, " ", fit(label, max(room, 0)), " ", (hint, "$dim"))

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
        far = " ".join(part for part in (reading.percent, reading.amount) if part)
        return reading.label, far

    def on_click(self, event: events.Click) -> None:
        """Make this the line that `x` means."""
        event.stop()
        self.post_message(self.Chosen(self.job))


class JobsPane(Surviving, VerticalScroll, can_focus=False):
    """Shows what a queue has to show everywhere."""

    def __init__(self, queue: JobQueue, *, id: str | None = None) -> None:  # noqa: A002 - Textual's word
        super().__init__(id=id)
        self._queue = queue
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
        self.sync()

    def sync(self) -> None:
        """The queue has changed."""
        pressing = self._queue.pressing
        for job in [job for job in self._lines if job not in pressing]:
            self._lines.pop(job).remove()
        for job in pressing:
            if job not in self._lines:
                self._add(job)
        if self._target not in self._lines:
            self._aim(next(reversed(self._lines), None))
        self.display = bool(self._lines)
        self._tick()
        if self._timer is not None and self._queue.active:
            self._timer.resume()

    @property
    def target(self) -> Job | None:
        """The job that `x` means."""
        return self._target

    def _add(self, job: Job) -> None:
        line = self._lines[job] = JobLine(job)
        self.mount(line)
        self._aim(job)
        self.scroll_end(animate=False)

    def _aim(self, target: Job | None) -> None:
        self._target = target
        for job, line in self._lines.items():
            line.set_class(job is target, "-target")

    def _tick(self) -> None:
        for line in self._lines.values():
            line.tick()
        if not self._queue.active and self._timer is not None:
            self._timer.pause()

    def on_job_line_chosen(self, message: JobLine.Chosen) -> None:
        """Aim at the clicked line."""
        message.stop()
        self._aim(message.job)
