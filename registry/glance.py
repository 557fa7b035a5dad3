"""One question to a library that is not open: whether it surely has no file of some bytes.

What opening it brings with it takes longer to load than the answer; so this knows one column, and
no more of what a library is.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from registry.storage.together import Together

_Question = tuple[Path, str]


def lacks(database: Path, sha256: str) -> bool:
    """Whether no asset has this SHA-256. Whatever is not sure is False: it is to be opened then."""
    return _asked((database, sha256))


def _answers(questions: Sequence[_Question]) -> list[bool]:
    digests: dict[Path, list[str]] = {}
    for database, sha256 in questions:
        digests.setdefault(database, []).append(sha256)
    lacking = {database: _lacking(database, asked) for database, asked in digests.items()}
    return [sha256 in lacking[database] for database, sha256 in questions]


_asked = Together(_answers)
"""Before its first answer SQLite reads what tables there are, which takes longer than many."""


def _lacking(database: Path, digests: Iterable[str]) -> frozenset[str]:
    if not database.is_file():
        return frozenset()
    try:
        with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True)) as file:
            return frozenset(_unknown(file, digests))
    except sqlite3.Error:
        return frozenset()


def _unknown(file: sqlite3.Connection, digests: Iterable[str]) -> Iterator[str]:
    for sha256 in digests:
        if not file.execute("SELECT 1 FROM asset WHERE sha256 = ?", (sha256,)).fetchall():
            yield sha256
