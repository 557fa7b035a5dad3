"""Where the bytes of a download gather: under a hidden name on the target's disk.

They stay there when a transfer breaks off, so that the next call goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from assetmgr.sources.transfers.transfer import tag_of
from converters.writers.atomic import TEMPORARY_SUFFIX
from registry.storage.file_lock import is_held

PARTS = ".downloads"
"""The hidden folder that bytes gather in, below the folder that the file goes to."""


def part_of(root: Path, content: str) -> Path:
    """Where the bytes gather: hidden, on the target's disk, one name for one content."""
    name = hashlib.sha256(content.encode()).hexdigest()[:32]
    return root / PARTS / f"{name}{TEMPORARY_SUFFIX}"


def discard(part: Path) -> None:
    """Remove what is left of a download, and the hidden folder after the last one.

    What another program is downloading to is left alone.
    """
    if is_held(part):
        return
    for left in (part, tag_of(part)):
        left.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        part.parent.rmdir()
