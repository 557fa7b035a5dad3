"""Background jobs: shown while they go, gone when done, kept when failed."""

from __future__ import annotations

import threading
from pathlib import Path

from helpers.waiting import until
from textual.app import App, ComposeResult

import tui
from converters.errors import NotAvailable
from converters.progress import Progress
from tui.bridge import Job, JobState, Lane
from tui.jobs import JobEnded, JobQueue
from tui.theme import SHADES
from tui.widgets.jobs_pane import JobLine, JobsPane


class PaneApp(App[None]):
    """The pane alone, in the program's clothes."""

    CSS_PATH = Path(tui.__file__).with_name("styles.tcss")

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[Job] = []

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return SHADES

    def compose(self) -> ComposeResult:
        self.queue = JobQueue(self)
        yield JobsPane(self.queue)

    def on_jobs_changed(self) -> None:
        self.pane.sync()

    def on_job_ended(self, message: JobEnded) -> None:
        self.ended.append(message.job)

    def on_unmount(self) -> None:
        self.queue.stop_all()

    def submit(self, job: Job) -> None:
        self.queue.submit(job)

    def stop_or_dismiss(self) -> None:
        assert self.pane.target is not None
        self.queue.stop_or_dismiss(self.pane.target)

    @property
    def pane(self) -> JobsPane:
        return self.query_one(JobsPane)


class Gate:
    """Work that waits to be let through, or stopped."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.begun, self.open, self._failure = threading.Event(), threading.Event(), failure

    def __call__(self, progress: Progress, /) -> str:
        progress.stage("sampling", 4, "steps")
        progress.advance(2)
        self.begun.set()
        while not self.open.wait(0.01):
            progress.advance(0)
        if self._failure:
            raise self._failure
        return "done"


def lines(app: PaneApp) -> list[str]:
    return [str(line.render()) for line in app.query(JobLine)]


async def test_a_running_job_shows_its_title_its_share_and_its_stage() -> None:
    app, gate = PaneApp(), Gate()
    async with app.run_test() as pilot:
        app.submit(Job("Preview of ink[/]", Lane.RENDER, gate))
        await until(pilot, gate.begun.is_set)
        assert "Preview of ink[/]" in lines(app)[0]
        assert "50% 2 / 4 steps sampling" in lines(app)[0]
        gate.open.set()
        await until(pilot, lambda: app.ended)


async def test_a_finished_job_leaves_the_pane_which_then_hides() -> None:
    app, gate = PaneApp(), Gate()
    gate.open.set()
    async with app.run_test() as pilot:
        app.submit(Job("a", Lane.DISK, gate))
        await until(pilot, lambda: app.ended)
        assert lines(app) == []
        assert not app.pane.display


async def test_a_failure_stays_until_it_is_dismissed() -> None:
    app, gate = PaneApp(), Gate(NotAvailable("no base checkpoint"))
    gate.open.set()
    async with app.run_test() as pilot:
        app.submit(Job("Preview", Lane.RENDER, gate))
        await until(pilot, lambda: app.ended)
        assert lines(app) == ["✗ Preview: no base checkpoint x dismisses"]
        app.stop_or_dismiss()
        await pilot.pause()
        assert lines(app) == []


async def test_jobs_of_one_lane_wait_for_each_other() -> None:
    app, first, second, other = PaneApp(), Gate(), Gate(), Gate()
    async with app.run_test() as pilot:
        app.submit(Job("first", Lane.RENDER, first))
        app.submit(Job("second", Lane.RENDER, second))
        app.submit(Job("other", Lane.DISK, other))
        await until(pilot, lambda: first.begun.is_set() and other.begun.is_set())
        assert [job.state for job in app.queue.jobs] == [
            JobState.RUNNING,
            JobState.QUEUED,
            JobState.RUNNING,
        ]
        assert "queued" in lines(app)[1]
        first.open.set()
        await until(pilot, second.begun.is_set)
        second.open.set()
        other.open.set()
        await until(pilot, lambda: len(app.ended) == 3)


async def test_stopping_ends_the_running_job_and_drops_the_waiting_one() -> None:
    app, first, second = PaneApp(), Gate(), Gate()
    async with app.run_test() as pilot:
        app.submit(Job("first", Lane.RENDER, first))
        app.submit(Job("second", Lane.RENDER, second))
        await until(pilot, first.begun.is_set)
        app.stop_or_dismiss()
        await pilot.pause()
        assert [job.title for job in app.queue.pressing] == ["first"]
        app.stop_or_dismiss()
        await until(pilot, lambda: app.ended)
        assert [job.state for job in app.ended] == [JobState.STOPPED]
        assert not second.begun.is_set()


async def test_a_click_chooses_which_job_is_stopped() -> None:
    app, first, second = PaneApp(), Gate(), Gate()
    async with app.run_test() as pilot:
        app.submit(Job("first", Lane.RENDER, first))
        app.submit(Job("second", Lane.DISK, second))
        await until(pilot, lambda: first.begun.is_set() and second.begun.is_set())
        await pilot.click(JobLine)
        assert ["x stops" in line for line in lines(app)] == [True, False]
        app.stop_or_dismiss()
        await until(pilot, lambda: app.ended)
        assert app.ended[0].title == "first"
        second.open.set()
        await until(pilot, lambda: len(app.ended) == 2)


async def test_leaving_the_program_stops_what_runs() -> None:
    app, gate = PaneApp(), Gate()
    job = Job("endless", Lane.DISK, gate)
    async with app.run_test() as pilot:
        app.submit(job)
        await until(pilot, gate.begun.is_set)
    assert job.progress.cancelled
