"""One question to a library that is not open: whether it surely has no file of some bytes.

What opening it brings with it takes longer to load than the answer; so this knows one column, and
no more of what a library is.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path


def lacks(database: Path, sha256: str) -> bool:
    """Whether no asset has this SHA-256. Whatever is not sure is False: it is to be opened then."""
    if not database.is_file():
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True)) as file:
            wanted = "SELECT 1 FROM asset WHERE sha256 = ?"
            return file.execute(wanted, (sha256,)).fetchone() is None
    except sqlite3.Error:
        return False
