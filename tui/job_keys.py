"""Which keys of the screen of jobs apply to what stands under its cursor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tui.bridge import Job, JobState

if TYPE_CHECKING:
    from registry.downloads.records import QueuedDownload

GOING = frozenset({JobState.RUNNING, JobState.PAUSED})
"""The states between which a job can be paused and let go on."""


def applies(action: str, job: Job | None, download: QueuedDownload | None) -> bool:
    """Whether an action on one of them does something, or tells why it cannot.

    >>> applies("stop", None, None), applies("close", None, None)
    (False, True)
    """
    rule = _RULES.get(action)
    return rule is None or rule(job, download)


def _stops(job: Job | None, download: QueuedDownload | None) -> bool:
    if job is not None:
        return job.active or job.state is JobState.FAILED
    return _is_open(download)


def _pauses(job: Job | None, download: QueuedDownload | None) -> bool:
    if job is not None:
        return job.state in GOING or not job.pausable
    return _is_open(download)


def _repeats(job: Job | None, download: QueuedDownload | None) -> bool:
    if job is not None:
        return not job.active or not job.repeatable
    return _is_open(download)


def _is_open(download: QueuedDownload | None) -> bool:
    return download is not None and download.state != "done"


_RULES: Mapping[str, Callable[[Job | None, QueuedDownload | None], bool]] = {
    "stop": _stops,
    "pause": _pauses,
    "again": _repeats,
    "first": lambda _, download: _is_open(download),
    "copy": lambda job, _: job is not None,
}
"""Of every action that is about what stands under the cursor."""
