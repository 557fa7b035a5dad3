"""Whether the file of an SQLite library is still the one that was opened.

SQLite goes on with a file that was removed or replaced meanwhile: what it writes then is lost, and
a connection that is opened later has another library (https://sqlite.org/howtocorrupt.html#unlink).
"""

from __future__ import annotations

from pathlib import Path

from registry.errors import LibraryUnusable

_HINT = "start the program again; put the library back before, if it was moved away by mistake"


class InPlace:
    """What lies at a path since this was made."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._opened = _identity(file)

    def require(self) -> None:
        """Raises LibraryUnusable when that is not there any more, or something else is."""
        now = _identity(self._file)
        if now != self._opened and self._opened is not None:
            cause = "was removed" if now is None else "was replaced by another file"
            raise LibraryUnusable(f"{cause} while it was in use", path=str(self._file), hint=_HINT)


def _identity(file: Path | None) -> tuple[int, int] | None:
    """The number that its file system gives a file; 0 where it gives none."""
    try:
        status = None if file is None else file.stat()
    except OSError:
        return None
    return None if status is None else (status.st_dev, status.st_ino)
