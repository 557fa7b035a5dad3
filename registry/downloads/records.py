"""What the queue of downloads takes in and gives out: plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class DownloadState(StrEnum):
    """What has become of a download."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to be downloaded.

    `subject` is the service's way to name the file, without addresses and tokens; the same subject
    for the same `folder` and `layout` is one download. `host` is what limits per host count,
    `bytes` and `sha256` what was announced. `content` is the same for the same bytes and for no
    others; `licence` what the service says of it. `again` wants it although the library has it.
    """

    service: str
    host: str
    subject: str
    label: str
    content: str
    bytes: int | None = None
    sha256: str | None = None
    folder: str | None = None
    layout: str | None = None
    licence: str | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a download failed; `passing` when it may work later without being changed."""

    error: str
    code: str
    hint: str | None
    path: str | None
    exit_code: int
    passing: bool


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where a file is now; `outcome` is `downloaded`, or `already` for what was there."""

    path: str
    asset: int
    outcome: str


@dataclass(frozen=True, slots=True)
class QueuedDownload:
    """A download and what has become of it; `received` is how many bytes have come.

    `wish` is what was asked of the program that runs it: `pause` or `cancel`.
    """

    id: int
    wanted: Wanted
    priority: int
    state: DownloadState
    received: int
    wish: str | None
    trouble: Trouble | None
    arrival: Arrival | None
    added: datetime
    ended: datetime | None


@dataclass(frozen=True, slots=True)
class Limits:
    """How many downloads may run at once, of all programs on this machine together.

    `sizes` are pairs of bytes and a number: so many of at least so many bytes.
    """

    in_all: int
    per_host: int
    sizes: tuple[tuple[int, int], ...] = ()
