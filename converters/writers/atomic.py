"""Targets that appear whole or not at all.

The bytes go to a temporary file in the target's own folder, are synced, and the file is renamed.
Whatever happens before, error, Ctrl-C or a kill, the target is what it was; all but a kill also
remove the temporary file. Without `overwrite` even a target that appears meanwhile is kept.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from converters.errors import AssetmgrError, DiskFull, TargetExists, WriteFailed
from converters.writers.room import reserve

TEMPORARY_SUFFIX = ".assetmgr-part"
"""Ends the name of every temporary file; scans skip them."""

WRITEBACK_BYTES = 32 << 20
"""After so many bytes the disk is told to begin with them."""

_BEHIND = 2
"""So many of these later the disk has them, and what is at places no longer needs memory."""

_NAMED_AFTER = 32
"""Characters of the target that a temporary name keeps: of four bytes each they still fit where
names have at most 255 bytes, as the target's own may have."""

_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})

Buffer = bytes | bytearray | memoryview


class AtomicTarget:
    """A file being written beside its target.

    Use as a context manager and call `commit` last; leaving without it removes the file. Its mode
    follows the umask, as if the target had been opened directly; `mode` may allow less. Raises
    TargetExists, DiskFull or WriteFailed.
    """

    def __init__(self, path: Path, *, overwrite: bool = False, mode: int = 0o666) -> None:
        self.path = path
        self._overwrite, self._mode = overwrite, mode
        self._temporary = temporary_beside(path)
        self.descriptor = -1
        self._end = 0
        self._dirty: list[tuple[int, int]] = []
        self._dirty_bytes = 0
        self._on_their_way: deque[list[tuple[int, int]]] = deque()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        refuse_existing(self.path, overwrite=self._overwrite)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        with naming(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.descriptor = os.open(self._temporary, flags, self._mode)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()
        with contextlib.suppress(FileNotFoundError):
            self._temporary.unlink()

    def write(self, data: Buffer) -> None:
        """Append all of `data`. Not together with what writes at places."""
        start = self._end
        view = memoryview(data)
        with naming(self.path):
            while view:
                count = os.write(self.descriptor, view)
                self._end += count
                view = view[count:]
        self._note(start, self._end)

    def reserve(self, nbytes: int) -> None:
        """Take the room for so many bytes at once, which is less work than taking it bit by bit."""
        reserve(self.descriptor, nbytes)

    def write_at(self, offset: int, data: Buffer) -> None:
        """Write all of `data` at a place; threads may do so at once."""
        view, at = memoryview(data), offset
        with naming(self.path):
            while view:
                count = self._pwrite(view, at)
                at += count
                view = view[count:]
        self._note(offset, at, keep=False)

    def copy_at(self, offset: int, source: int, start: int, nbytes: int) -> int:
        """Let the kernel copy bytes of an open file to a place; how many, 0 where it cannot."""
        copy, done = getattr(os, "copy_file_range", None), 0
        while copy is not None and done < nbytes:
            try:
                count = copy(source, self.descriptor, nbytes - done, start + done, offset + done)
            except OSError as error:
                if error.errno in _FULL:
                    raise DiskFull("no space left on the disk", path=self.path) from error
                count = 0  # not between these file systems, or not by this kernel
            if not count:
                break
            done += count
        self._note(offset, offset + done, keep=False)
        return done

    def _pwrite(self, data: memoryview, offset: int) -> int:
        if hasattr(os, "pwrite"):
            return os.pwrite(self.descriptor, data, offset)
        with self._lock:  # Windows cannot write at places
            os.lseek(self.descriptor, offset, os.SEEK_SET)
            return os.write(self.descriptor, data)

    def _note(self, start: int, end: int, *, keep: bool = True) -> None:
        """Remember what was written, and let the disk begin once it is enough.

        Where memory need not `keep` it, that of what the disk has by then is used again.
        """
        with self._lock:
            self._dirty.append((start, end))
            self._dirty_bytes += end - start
            if self._dirty_bytes < WRITEBACK_BYTES:
                return
            told, self._dirty, self._dirty_bytes = _joined(self._dirty), [], 0
            if not keep:
                self._on_their_way.append(told)
                if len(self._on_their_way) > _BEHIND:
                    told = told + self._on_their_way.popleft()
        for first, last in told:
            start_writeback(self.descriptor, first, last - first)

    def commit(self) -> None:
        """Sync the bytes to the disk and let the target appear."""
        with naming(self.path):
            os.fsync(self.descriptor)
            self._close()
            if self._overwrite:
                self._temporary.replace(self.path)
            else:
                self._appear()
            sync_folder(self.path.parent)

    def _appear(self) -> None:
        """Give the file its name unless something else has it by now."""
        try:
            os.link(self._temporary, self.path)
        except FileExistsError as error:
            raise _exists(self.path) from error
        except (OSError, NotImplementedError, AttributeError):
            # No hard links on this file system: on Windows a rename refuses by itself.
            refuse_existing(self.path, overwrite=False)
            self._temporary.rename(self.path)

    def _close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def temporary_beside(path: Path) -> Path:
    """A hidden name in the folder of `path` that nobody has; every scan skips it."""
    name = f".{path.name[:_NAMED_AFTER]}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
    return path.with_name(name)


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges with those that touch as one: the kernel is slow to be told, whatever the length."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if joined and joined[-1][1] == start:
            start = joined.pop()[0]  # noqa: PLW2901
        joined.append((start, end))
    return joined


def start_writeback(descriptor: int, start: int, length: int) -> None:
    """Let the disk begin with what was written, so that the sync at the end waits less.

    Linux starts writing dirty pages that are declared useless and, as they are dirty, keeps them
    cached (mm/fadvise.c); told again when they are clean, it takes their memory. Elsewhere the
    advice does nothing.
    """
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raises TargetExists for a target that must not be replaced, WriteFailed for one that is none.

    Who may replace anything would otherwise put a file in the place of /dev/null.
    """
    if os.path.isdir(path):  # noqa: PTH112  # Path.is_dir raises for names that are too long
        raise WriteFailed("is a folder", path=path)
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113  # as above
        raise WriteFailed("is a device, pipe or socket, not a file", path=path)
    if not overwrite and os.path.lexists(path):
        raise _exists(path)


def _exists(path: Path) -> AssetmgrError:
    return TargetExists("already exists", path=path, hint="use --overwrite to replace it")


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the operating system as DiskFull or WriteFailed of this target."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull("no space left on the disk", path=path) from error
        if isinstance(error, (FileExistsError, NotADirectoryError)):
            for parent in path.parents:
                if os.path.lexists(parent) and not parent.is_dir():
                    raise WriteFailed("is not a folder", path=parent) from error
        raise WriteFailed(f"cannot be written: {error.strerror or error}", path=path) from error


def free_bytes(target: Path) -> tuple[int, int]:
    """The number of the disk that a target would lie on, and its free bytes for this user."""
    place = target.absolute()
    while not os.path.isdir(place):  # noqa: PTH112  # never raises; the root is a folder
        place = place.parent
    return os.stat(place).st_dev, shutil.disk_usage(place).free


def refuse_full(target: Path, nbytes: int) -> None:
    """Raises DiskFull when the target cannot fit, before its first byte is written."""
    with naming(target):
        _, free = free_bytes(target)
    if nbytes > free:
        raise DiskFull(f"needs {nbytes:,} bytes, the disk has {free:,} left", path=target)


def sync_folder(folder: Path) -> None:
    """Make the new name itself durable, where folders can be synced."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_whole(path: Path, data: bytes, *, overwrite: bool = False, mode: int = 0o666) -> None:
    """Write a small file whole or not at all."""
    with AtomicTarget(path, overwrite=overwrite, mode=mode) as target:
        target.write(data)
        target.commit()
