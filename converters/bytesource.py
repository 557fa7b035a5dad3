"""Where bytes come from: a local file, memory, a remote file; read by position only.

Everything above reads through `pread`, so one reader serves local and remote files alike and no
shared file position exists between threads.
"""

from __future__ import annotations

import mmap
import os
import stat
import sys
import threading
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from converters.errors import (
    AssetmgrError,
    FileMissing,
    FileUnreadable,
    SourceChanged,
    TruncatedFile,
)


class Fingerprint(NamedTuple):
    """What must not change while a file is read: size in bytes, mtime in ns, inode."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Fingerprint:
        """The fingerprint in a stat result."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


class ByteSource(Protocol):
    """Random access to a fixed run of bytes."""

    @property
    def name(self) -> str:
        """What to call it in messages."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    @property
    def is_distant(self) -> bool:
        """Whether every read costs a round trip, so that few large ones beat many small ones."""

    def pread(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes at `offset`; raises TruncatedFile when they are not there."""

    def check_unchanged(self) -> None:
        """Raises SourceChanged when the content may differ from what was opened."""


@runtime_checkable
class WithNeighbours(ByteSource, Protocol):
    """Bytes of a file that others lie beside."""

    def beside(self, name: str) -> ByteSource:
        """The file of a path below this one's folder; raises FileMissing."""


class MemoryBytes:
    """Bytes already in memory."""

    is_distant = False

    def __init__(self, data: bytes, name: str = "<memory>") -> None:
        self._data = data
        self.name = name
        self.size = len(data)

    def pread(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes at `offset`."""
        piece = self._data[offset : offset + count]
        if len(piece) != count:
            raise TruncatedFile(
                f"ends at byte {self.size}, needed {offset + count}", path=self.name
            )
        return piece

    def check_unchanged(self) -> None:
        """Memory does not change."""


class FileBytes:
    """A regular local file, held open; safe to read from several threads.

    Raises FileMissing, or FileUnreadable for directories, FIFOs, devices and refused access.
    """

    is_distant = False
    _close = staticmethod(os.close)  # at the interpreter's end, modules may be emptied before us

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.name = os.fspath(path)
        self._descriptor = _open_regular(self.path)
        status = os.fstat(self._descriptor)
        self.fingerprint = Fingerprint.of(status)
        self.size = status.st_size
        self._seek_lock = threading.Lock()
        self._mapping: mmap.mmap | None = None

    def fileno(self) -> int:
        """The descriptor, for calls that copy inside the kernel."""
        return self._descriptor

    def pread(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes at `offset`; raises TruncatedFile or FileUnreadable."""
        try:
            data = self._read_at(offset, count)
        except OSError as error:
            raise FileUnreadable(f"cannot be read: {_reason(error)}", path=self.name) from error
        if len(data) != count:
            raise TruncatedFile(
                f"ends at byte {offset + len(data)}, needed {offset + count}", path=self.name
            )
        return data

    def beside(self, name: str) -> FileBytes:
        """The file of a path below this one's folder; raises FileMissing."""
        return FileBytes(self.path.parent / name)

    def check_unchanged(self) -> None:
        """Raises SourceChanged when size, modification time or inode differ from the opening."""
        try:
            now = Fingerprint.of(os.stat(self.path))
        except OSError as error:
            raise SourceChanged(
                f"vanished while being read: {_reason(error)}", path=self.name
            ) from error
        if now != self.fingerprint:
            raise SourceChanged("was modified while being read", path=self.name)

    def mapped(self) -> mmap.mmap:
        """The whole file as memory, which may be changed without changing the file.

        Raises OSError where the system cannot map it, ValueError for an empty one.
        """
        with self._seek_lock:
            if self._mapping is None:
                self._mapping = mmap.mmap(self._descriptor, self.size, access=mmap.ACCESS_COPY)
            return self._mapping

    def close(self) -> None:
        """Release the descriptor; reading afterwards fails. What is mapped stays for its users."""
        if self._descriptor >= 0:
            self._close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            self.close()

    def _read_at(self, offset: int, count: int) -> bytes:
        if not hasattr(os, "pread"):  # Windows has no positional read on descriptors
            with self._seek_lock:
                os.lseek(self._descriptor, offset, os.SEEK_SET)
                return _read_fully(lambda done: os.read(self._descriptor, count - done), count)
        return _read_fully(
            lambda done: os.pread(self._descriptor, count - done, offset + done), count
        )


def mapping(source: ByteSource) -> mmap.mmap | None:
    """A local file as memory, private to this process; None for other sources and on Windows."""
    if not isinstance(source, FileBytes) or sys.platform == "win32":
        return None
    try:
        return source.mapped()
    except (OSError, ValueError):
        return None


def pread_into(source: ByteSource, offset: int, target: memoryview) -> None:
    """Fill `target` with the bytes at `offset`; raises TruncatedFile or FileUnreadable.

    Reads straight into the caller's buffer where the system can, so that large copies reuse memory.
    """
    if not isinstance(source, FileBytes) or not hasattr(os, "preadv"):
        target[:] = source.pread(offset, len(target))
        return
    done = 0
    while done < len(target):
        try:
            count = os.preadv(source.fileno(), [target[done:]], offset + done)
        except OSError as error:
            raise FileUnreadable(f"cannot be read: {_reason(error)}", path=source.name) from error
        if count == 0:
            end = offset + len(target)
            raise TruncatedFile(f"ends at byte {offset + done}, needed {end}", path=source.name)
        done += count


def _read_fully(read_rest: _ReadRest, count: int) -> bytes:
    first = read_rest(0)
    if len(first) == count or not first:
        return first
    pieces, done = [first], len(first)
    while done < count and (piece := read_rest(done)):
        pieces.append(piece)
        done += len(piece)
    return b"".join(pieces)


class _ReadRest(Protocol):
    def __call__(self, done: int, /) -> bytes: ...


def _open_regular(path: Path) -> int:
    try:
        status = os.stat(path)
        _require_regular(path, status.st_mode)
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        return os.open(path, flags)
    except FileNotFoundError as error:
        raise FileMissing("no such file", path=path) from error
    except OSError as error:
        raise FileUnreadable(f"cannot be opened: {_reason(error)}", path=path) from error
    except ValueError as error:  # embedded NUL in the name
        raise FileUnreadable(f"cannot be opened: {error}", path=repr(path)) from error


def _require_regular(path: Path, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    raise _irregular(path, mode)


def _irregular(path: Path, mode: int) -> AssetmgrError:
    if stat.S_ISDIR(mode):
        return FileUnreadable("is a folder, not a file", path=path)
    return FileUnreadable("is not a regular file (FIFO, socket or device)", path=path)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
