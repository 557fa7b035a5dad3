"""How failures of databases read: a cause in one line, and what to do about it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import exc

from registry.storage.backup import backups

NUL = "cannot contain NUL"
DAMAGED = (
    "save what was typed with assetmgr export, if that can still be read;"
    " move it away, with its -wal and -shm, and scan again"
)
_DRIVER_CAUSES = (
    ("locked", "is locked by another program", "close it or try again later"),
    ("readonly", "is read-only", "check the permissions of the file and its folder"),
    ("not a database", "is not a library database, or is corrupt", DAMAGED),
    ("malformed", "is corrupt", DAMAGED),
    ("unable to open", "cannot be opened", "check that its folder exists and can be written"),
    ("disk is full", "cannot grow: the disk is full", None),
    ("disk I/O", "cannot be written: the disk is full, or broken", "make room, or check the disk"),
    ("lock timeout", "is locked by another program", "close it or try again later"),
    ("read-only transaction", "is read-only", "ask its owner for permission to write"),
    ("permission denied", "is not open to this user", "ask its owner for permission"),
    ("password", "refuses the password", "check user and password in the URL"),
    ("does not exist", "does not exist on the server", "make it with createdb"),
    ("connection", "cannot be reached", "is the server running at this address?"),
    ("failed to resolve", "cannot be reached", "is the server running at this address?"),
)
"""Part of a driver's message -> our cause and hint (https://sqlite.org/rescode.html,
https://www.postgresql.org/docs/current/errcodes-appendix.html)."""


def advice(file: Path) -> str:
    """What to do about a database that is damaged."""
    kept = backups(file)
    if not kept:
        return DAMAGED
    return (
        "save what was typed with assetmgr export, if that can still be read;"
        f" move it away, with its -wal and -shm; put a backup in its place, {kept[0].name};"
        " and scan again"
    )


def explain(error: Exception) -> tuple[str, str | None]:
    """The cause of a driver's error in one line, and a hint where there is one."""
    cause = str(error.orig if isinstance(error, exc.DBAPIError) else error)
    for part, reason, hint in _DRIVER_CAUSES:
        if part in cause:
            return reason, hint
    return f"cannot be used: {' '.join(cause.split())}", None
