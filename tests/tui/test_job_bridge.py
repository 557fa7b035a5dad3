"""A job's thread reports and fails without touching the screen."""

from __future__ import annotations

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


def test_a_pace_that_the_operation_tells_goes_before_the_count() -> None:
    """Of a download that goes on in the middle of a file, or is joined by another."""
    progress = JobProgress()
    progress.stage("downloading", 1000)
    progress.advance(500)
    progress.pace(100.0, 5.0)
    progress.stage("downloading 2 files", 2000)
    progress.advance(500)
    much_later = progress.reading.since + 1
    assert (progress.reading.rate(much_later), progress.reading.left(much_later)) == (100, 5)
