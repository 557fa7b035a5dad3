"""Bring the library up to date with folders and files: the only module that reads model files."""

from __future__ import annotations

import os
from collections.abc import Sequence

from converters.hashing import FileHashes
from converters.progress import SILENT, Progress
from registry.library import Library
from registry.records import Asset, ScanReport


def scan(
    library: Library,
    paths: Sequence[str | os.PathLike[str]] = (),
    progress: Progress = SILENT,
) -> ScanReport:
    """Add or update folders. Raises Cancelled."""
    raise NotImplementedError


def scan_file(
    library: Library,
    path: str | os.PathLike[str],
    progress: Progress = SILENT,
    hashes: FileHashes | None = None,
) -> Asset:
    """Record one file now; with `hashes` that are known already it is not read again.

    Raises FileProblem when the file cannot be read.
    """
    raise NotImplementedError
