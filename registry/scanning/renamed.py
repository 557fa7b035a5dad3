"""Files that were renamed on their disk, known again before anything is read."""

from __future__ import annotations

import os
from collections.abc import Mapping

from converters.bytesource import Fingerprint
from registry.scanning.scan_records import KnownFile


def followed(
    known: Mapping[str, KnownFile], met: Mapping[str, Fingerprint]
) -> dict[str, tuple[str, KnownFile]]:
    """By the new path, the old one of files that a walk met elsewhere, and what is known of them.

    As for those that stayed, size, time and inode tell that a file is the same; but nothing may be
    at its old path, and file systems that have no inodes tell nothing.
    """
    arrived = {found: path for path, found in met.items() if path not in known and found.inode}
    if not arrived:
        return {}
    return {
        arrived.pop(file.fingerprint): (old, file)
        for old, file in known.items()
        if file.is_hashed and file.fingerprint in arrived and not os.path.lexists(old)
    }
