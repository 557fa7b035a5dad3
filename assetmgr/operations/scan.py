"""Bring the library up to date with folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import ScanReport


def scan(
    workspace: Workspace, paths: Sequence[str] = (), progress: Progress = SILENT
) -> ScanReport:
    """Add or update folders and files; without paths all folders the library knows.

    Raises Cancelled; what was recorded before stays.
    """
    from registry.scanner import scan as scan_paths

    return scan_paths(workspace.library, paths, progress)


def report_json(report: ScanReport) -> dict[str, object]:
    """The document of the contract."""
    document = asdict(report)
    document["roots"] = list(report.roots)
    document["errors"] = [asdict(error) for error in report.errors]
    return document
