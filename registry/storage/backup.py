"""Copies of an SQLite library from before it was migrated, beside it.

`library.db.backup-<revision>` is a whole database as that version of the program knew it: copied by
SQLite itself (https://sqlite.org/backup.html), with what its write-ahead log holds.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from registry.errors import LibraryUnusable

KEPT = 3
"""The newest backups stay, older ones go when one is made."""

_HINT = "make room, or move the library to another disk"


def backups(database: Path) -> tuple[Path, ...]:
    """The backups there are, the newest first."""
    found = [path for path in _beside(database) if not path.name.endswith(".part")]
    return tuple(sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True))


def is_emptied(file: Path) -> bool:
    """Whether nothing is left of a library that was migrated once."""
    return os.path.isfile(file) and not file.stat().st_size and bool(backups(file))  # noqa: PTH113


def back_up(database: Path, revision: str) -> Path:
    """Copy a library that others may be reading. Raises LibraryUnusable and leaves nothing then."""
    target = database.with_name(f"{database.name}.backup-{revision}")
    part = target.with_name(f"{target.name}.part")
    if shutil.disk_usage(database.parent).free < database.stat().st_size:
        raise _failed("the disk is too full")
    try:
        _copy(database, part)
        shutil.copymode(database, part)
        part.replace(target)
    except (OSError, sqlite3.Error) as error:
        part.unlink(missing_ok=True)
        raise _failed(getattr(error, "strerror", None) or str(error)) from error
    _remove(backups(database)[KEPT:])
    return target


def _copy(database: Path, target: Path) -> None:
    target.unlink(missing_ok=True)  # of a program that was killed
    source = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)
    with closing(source), closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _beside(database: Path) -> Sequence[Path]:
    start = f"{database.name}.backup-"
    try:
        return [path for path in database.parent.iterdir() if path.name.startswith(start)]
    except OSError:  # no folder, no backups
        return []


def _remove(old: Sequence[Path]) -> None:
    for path in old:
        path.unlink(missing_ok=True)


def _failed(cause: str) -> LibraryUnusable:
    return LibraryUnusable(f"cannot be backed up before its migration: {cause}", hint=_HINT)
