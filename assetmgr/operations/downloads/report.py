"""A download of the queue as a document."""

from __future__ import annotations

from dataclasses import asdict

from assetmgr.operations.downloads.queue import PRIORITIES, Shortage
from registry.downloads.records import QueuedDownload

_WORDS = {number: word for word, number in PRIORITIES.items()}


def download_json(download: QueuedDownload) -> dict[str, object]:
    """One entry of the queue; addresses and tokens are not kept in it."""
    wanted, arrival, trouble = download.wanted, download.arrival, download.trouble
    return {
        "id": download.id,
        "state": download.state.value,
        "service": wanted.service,
        "file": wanted.label,
        "bytes": wanted.bytes,
        "received": download.received,
        "sha256": wanted.sha256,
        "licence": wanted.licence,
        "to": wanted.folder,
        "layout": wanted.layout,
        "priority": _WORDS.get(download.priority, str(download.priority)),
        "path": None if arrival is None else arrival.path,
        "asset": None if arrival is None else arrival.asset,
        "outcome": None if arrival is None else arrival.outcome,
        "failure": None if trouble is None else _failure_json(asdict(trouble)),
        "added": download.added.isoformat(),
        "ended": None if download.ended is None else download.ended.isoformat(),
    }


def _failure_json(trouble: dict[str, object]) -> dict[str, object]:
    """As in an `errors` list."""
    return {name: trouble[name] for name in ("path", "error", "code", "hint")}


def shortage_json(shortage: Shortage) -> dict[str, object]:
    """A disk that is too small for what is queued."""
    return {
        "folder": str(shortage.folder),
        "needed": shortage.needed,
        "free": shortage.free,
    }
