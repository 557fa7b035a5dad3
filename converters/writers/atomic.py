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
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from converters.errors import AssetmgrError, DiskFull, TargetExists, WriteFailed

TEMPORARY_SUFFIX = ".assetmgr-part"
"""Ends the name of every temporary file; scans skip them."""

_WRITEBACK_BYTES = 32 << 20
_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})


class AtomicTarget:
    """A file being written beside its target.

    Use as a context manager and call `commit` last; leaving without it removes the file. Its mode
    follows the umask, as if the target had been opened directly; `mode` may allow less. Raises
    TargetExists, DiskFull or WriteFailed.
    """

    def __init__(self, path: Path, *, overwrite: bool = False, mode: int = 0o666) -> None:
        self.path = path
        self._overwrite, self._mode = overwrite, mode
        name = f".{path.name[:100]}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
        self._temporary = path.with_name(name)
        self.descriptor = -1
        self._written = self._on_its_way = 0

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

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data`."""
        view = memoryview(data)
        with naming(self.path):
            while view:
                count = os.write(self.descriptor, view)
                self._written += count
                view = view[count:]
        if self._written - self._on_its_way >= _WRITEBACK_BYTES:
            self._start_writeback()

    def _start_writeback(self) -> None:
        """Let the disk begin with what was written, so that the sync at the end waits less.

        Linux starts writing dirty pages that are declared useless and, as they are dirty, keeps
        them cached (mm/fadvise.c); elsewhere the advice does nothing.
        """
        start, self._on_its_way = self._on_its_way, self._written
        if hasattr(os, "posix_fadvise"):
            length = self._written - start
            with contextlib.suppress(OSError):
                os.posix_fadvise(self.descriptor, start, length, os.POSIX_FADV_DONTNEED)

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


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raises TargetExists for a target that must not be replaced."""
    if os.path.isdir(path):  # noqa: PTH112  # Path.is_dir raises for names that are too long
        raise WriteFailed("is a folder", path=path)
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
