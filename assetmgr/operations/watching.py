"""Follow what happens in folders, and keep the library up to date with it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from assetmgr.operations.scan import scan, scan_again
from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.scanning.scan_records import ScanReport

QUIET_MS = 1600
"""Changes that follow each other faster are one: a folder that is copied is scanned once."""
AGAIN_MS = 5000
"""After so long files that were still being written are looked at again."""
_BEING_WRITTEN = "being_written"


def watch(
    workspace: Workspace,
    paths: Sequence[str] = (),
    progress: Progress = SILENT,
    stop: threading.Event | None = None,
) -> Iterator[ScanReport]:
    """Scan folders, all known ones without `paths`, and again what changes until `stop` is set.

    Each report that says something is given out as it comes. File systems that tell no changes
    (network shares) are looked through regularly when `WATCHFILES_FORCE_POLLING` is set. Raises
    Cancelled and KeyboardInterrupt; what was recorded before stays.
    """
    from watchfiles import watch as watch_folders

    first = scan(workspace, paths, progress)
    yield first
    again = True  # once in any case: something may have changed before the watching began
    changes = watch_folders(
        *first.roots,
        watch_filter=lambda _, path: not _is_ours(workspace, path),
        debounce=QUIET_MS,
        stop_event=stop,
        rust_timeout=AGAIN_MS,
        yield_on_timeout=True,
        ignore_permission_denied=True,
    )
    for changed in changes if first.roots else ():
        touched = first.roots if again else _touched(first.roots, [path for _, path in changed])
        if not touched:
            continue
        report = scan_again(workspace, touched, progress)
        again = _is_unfinished(report)
        if _says_something(report):
            yield report


def together(reports: Sequence[ScanReport]) -> ScanReport:
    """Several reports, at least one, as one: what happened in all of them."""
    names = ("added", "updated", "moved", "missing", "restored", "failed", "bytes_hashed")
    return replace(
        reports[0],
        **{name: sum(getattr(report, name) for report in reports) for name in names},
        seconds=sum(report.seconds for report in reports),
        errors=tuple(error for report in reports for error in report.errors),
        contradicted=tuple(each for report in reports for each in report.contradicted),
    )


def _touched(roots: Sequence[str], changed: Sequence[str]) -> list[str]:
    from registry.scanning.places import within

    return [root for root in roots if any(within(path, root) for path in changed)]


def _is_ours(workspace: Workspace, path: str) -> bool:
    """What the program itself writes: its state, and targets that are not whole yet."""
    from registry.scanning.places import canonical, within

    hidden = PurePath(path).name.startswith(".")
    return hidden or within(path, canonical(workspace.paths.home))


def _is_unfinished(report: ScanReport) -> bool:
    return any(error.code == _BEING_WRITTEN for error in report.errors)


def _says_something(report: ScanReport) -> bool:
    changes = (report.added, report.updated, report.moved, report.missing, report.restored)
    return (
        any(changes)
        or bool(report.contradicted)
        or any(error.code != _BEING_WRITTEN for error in report.errors)
    )
