"""A lock that the system lets go of when its holder dies: whoever holds it is alive.

`flock` on POSIX systems, a locked byte on Windows. Locks of both kinds belong to the open file, so
that two threads of one process exclude each other as two processes do.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Self

from converters.errors import WriteFailed

_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0)


class FileLock:
    """A file whose lock says that its holder lives; use as a context manager around that life."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, _FLAGS, 0o600)
        except OSError as error:
            raise WriteFailed(f"cannot be locked: {error.strerror}", path=self.path) from error
        if not try_lock(self._descriptor):
            self._close()
            raise WriteFailed("is in use by another program", path=self.path)
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        _remove(self.path)

    def _close(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock; the file of a dead holder is removed."""
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return False
    try:
        held = not try_lock(descriptor)
    finally:
        os.close(descriptor)
    if not held:
        _remove(path)
    return held


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # on Windows while another program asks whether it is held
        return


if sys.platform == "win32":

    def try_lock(descriptor: int) -> bool:
        """Lock an open file until it is closed, unless somebody else has."""
        import msvcrt

        position = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, _FAR, os.SEEK_SET)  # locked bytes cannot be read by others
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, position, os.SEEK_SET)
        return True

    _FAR = 0x7FFF_FFFF

else:

    def try_lock(descriptor: int) -> bool:
        """Lock an open file until it is closed, unless somebody else has."""
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            return True
        return True
