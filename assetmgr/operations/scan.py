"""Bring the library up to date with folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.scanning.scan_records import ScanReport


def scan(
    workspace: Workspace, paths: Sequence[str] = (), progress: Progress = SILENT
) -> ScanReport:
    """Add or update folders and files; without paths all folders the library knows.

    Of a folder that belongs to a program the folders of models that its configuration names
    elsewhere are scanned, too. Raises Cancelled; what was recorded before stays. Raises
    LibraryUnusable also where damage to the database was not in the way of the scan.
    """
    with workspace.library.looked_through():
        return scan_again(workspace, paths, progress)


def scan_again(
    workspace: Workspace, paths: Sequence[str] = (), progress: Progress = SILENT
) -> ScanReport:
    """A scan that follows another one soon: all of the database was looked at a moment ago."""
    from assetmgr.operations.programs import programs_of
    from registry.scanning.scanner import scan as scan_paths

    elsewhere = [folder for program in programs_of(paths) for folder in program.folders]
    return scan_paths(workspace.library, [*paths, *elsewhere], progress)


def report_json(report: ScanReport) -> dict[str, object]:
    """The document of the contract."""
    document = asdict(report)
    document["roots"] = list(report.roots)
    document["errors"] = [asdict(error) for error in report.errors]
    document["contradicted"] = [asdict(each) for each in report.contradicted]
    return document
