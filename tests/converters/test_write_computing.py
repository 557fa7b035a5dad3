"""Jobs of a writer run in threads, as many as there are processors, within bounds."""

from __future__ import annotations

import threading

import pytest

from converters.writers import computing
from converters.writers.computing import MOST_WORKERS, Computer, Job


@pytest.mark.parametrize(("processors", "together"), [(1, 2), (3, 3), (64, MOST_WORKERS)])
def test_as_many_jobs_run_at_once_as_there_are_processors(
    processors: int, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(computing, "processors", lambda: processors)
    met = threading.Barrier(together)
    running, most, lock = 0, 0, threading.Lock()

    def run() -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        met.wait(timeout=10)
        with lock:
            running -= 1
        return most

    with Computer([Job(1, run)] * (3 * together)) as computer:
        for _ in range(3 * together):
            computer.next()
    assert most == together
