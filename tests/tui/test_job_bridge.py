"""A job's thread reports and fails without touching the screen."""

from __future__ import annotations

import time

import pytest

from converters.errors import NotAvailable
from converters.progress import Progress
from tui.bridge import Job, JobProgress, JobState, Lane, Reading


def job(work: object) -> Job:
    return Job("a job", Lane.DISK, work)  # type: ignore[arg-type]


def test_the_latest_report_can_be_read_at_any_time() -> None:
    progress = JobProgress()
    progress.stage("writing\x1b[2J", 10, "steps")
    progress.advance(4)
    assert progress.reading == Reading("writing\\x1b[2J", 4, 10, "steps")
    assert progress.reading.fraction == pytest.approx(0.4)


def test_a_stage_without_a_total_has_no_fraction() -> None:
    assert Reading("loading", 3, None).fraction is None


def test_a_job_that_ends_keeps_its_outcome() -> None:
    done = job(lambda progress: "3 added")
    done.run()
    assert (done.state, done.outcome) == (JobState.DONE, "3 added")


def test_a_named_failure_becomes_one_line_with_its_hint() -> None:
    def work(progress: Progress) -> str:
        raise NotAvailable("no base", path="ink.safetensors", hint="scan one")

    failed = job(work)
    failed.run()
    assert (failed.state, failed.outcome) == (
        JobState.FAILED,
        "ink.safetensors: no base (scan one)",
    )


def test_a_fault_of_ours_costs_the_job_and_nothing_else() -> None:
    failed = job(lambda progress: str(1 // 0))
    failed.run()
    assert failed.state is JobState.FAILED
    assert failed.outcome.startswith("ZeroDivisionError")


def test_a_stopped_job_ends_at_its_next_report() -> None:
    def work(progress: Progress) -> str:
        stopped.stop()
        assert stopped.state is JobState.STOPPING
        progress.advance()
        return "never"

    stopped = job(work)
    stopped.run()
    assert stopped.state is JobState.STOPPED


def test_a_job_stopped_while_it_waits_is_over_at_once() -> None:
    waiting = job(lambda progress: "never")
    waiting.stop()
    assert waiting.state is JobState.STOPPED
    assert not waiting.active


def test_what_was_there_when_a_stage_began_is_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes on in the middle of a file tells at once what it has."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    progress = JobProgress()
    progress.stage("downloading", 1000)
    progress.advance(500)
    clock[0] += 1
    assert progress.reading.rate(clock[0]) is None
    progress.advance(100)
    assert (progress.reading.rate(clock[0]), progress.reading.left(clock[0])) == (100, 4)
