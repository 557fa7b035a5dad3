"""A file under a second name: symbolic links, hard links, shared blocks and copies.

Every function makes something new and refuses a name that is taken. What a system or a file system
cannot do is a WriteFailed, so that callers can try the next way.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from converters.bytesource import FileBytes
from converters.errors import TargetExists, WriteFailed
from converters.progress import SILENT, Progress
from converters.writers.atomic import AtomicTarget, naming, refuse_full

BLOCK_BYTES = 4 << 20
FICLONE = 0x40049409
"""ioctl number of Linux (include/uapi/linux/fs.h) that lets one file share another's blocks."""

_NO_REFLINKS = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL)
"""ioctl_ficlone(2): the file system cannot, is none that knows it, or they are two."""


class LinkKind(StrEnum):
    """How a second name comes to its bytes."""

    SYMLINK = "symlink"
    HARDLINK = "hardlink"
    COPY = "copy"


def symlink(source: Path, place: Path, *, relative: bool = False) -> None:
    """A symbolic link at `place`; a relative one leads from the real folder that it lies in."""
    start = os.path.realpath(place.parent)
    named = os.path.relpath(source, start) if relative else os.fspath(source)
    with _placing(place):
        place.symlink_to(named, target_is_directory=source.is_dir())


def hard_link(source: Path, place: Path) -> None:
    """A second name of the file itself; a source that is a symbolic link is followed first."""
    with _placing(place):
        place.hardlink_to(os.path.realpath(source))


def copy(source: Path, place: Path, progress: Progress = SILENT) -> None:
    """A copy of the bytes with the source's modification time. It appears whole or not at all.

    Raises FileProblem for the source, SourceChanged when it is modified meanwhile.
    """
    file = FileBytes(source)
    try:
        refuse_full(place, file.size)
        with AtomicTarget(place) as target:
            for offset in range(0, file.size, BLOCK_BYTES):
                block = file.pread(offset, min(BLOCK_BYTES, file.size - offset))
                target.write(block)
                progress.advance(len(block))
            file.check_unchanged()
            target.commit()
    finally:
        file.close()
    with naming(place):
        os.utime(place, ns=(file.fingerprint.mtime_ns, file.fingerprint.mtime_ns))


def clone(source: Path, place: Path) -> None:
    """A file of its own that shares the source's blocks until one of them is written to.

    Btrfs, XFS and others can on Linux; raises WriteFailed everywhere else.
    """
    request = _clone_request()
    with _placing(place):
        target = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _share_blocks(source, target, request)
        except BaseException:
            os.close(target)
            place.unlink(missing_ok=True)
            raise
        os.close(target)


def _clone_request() -> int:
    if os.name != "posix" or not hasattr(os, "uname") or os.uname().sysname != "Linux":
        raise WriteFailed("this system has no reflinks", hint="use --as hardlink")
    return FICLONE


def _share_blocks(source: Path, target: int, request: int) -> None:
    import fcntl

    origin = os.open(source, os.O_RDONLY)
    try:
        fcntl.ioctl(target, request, origin)
        os.fsync(target)
    except OSError as error:
        if error.errno in _NO_REFLINKS:
            raise WriteFailed(
                "its file system has no reflinks", path=source, hint="use --as hardlink"
            ) from error
        raise
    finally:
        os.close(origin)


def leads_to(link: Path) -> str:
    """The absolute path that a symbolic link names; raises OSError when it is none."""
    named = str(link.readlink()).removeprefix("\\\\?\\")  # which Windows puts before long paths
    return os.path.normpath(Path(os.path.realpath(link.parent), named))


@contextlib.contextmanager
def _placing(place: Path) -> Iterator[None]:
    """Errors of the operating system as those of the target."""
    try:
        with naming(place):
            yield
    except WriteFailed as error:
        if isinstance(error.__cause__, FileExistsError):
            raise TargetExists("already exists", path=place) from error
        raise
    except NotImplementedError as error:
        raise WriteFailed("this system has no such links", path=place) from error
