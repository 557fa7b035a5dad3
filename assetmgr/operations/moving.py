"""Giving a file, a link or a folder another place, which is never one that is taken.

On one disk that is a second name and the end of the first: nothing is read, and the file is there
under one of its names at every moment. To another disk the bytes are copied, compared and only then
removed where they were.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

from assetmgr.operations.file_links import BLOCK_BYTES, copy, leads_to, symlink
from converters.bytesource import FileBytes
from converters.errors import TargetExists, WriteFailed
from converters.progress import SILENT, Progress
from converters.writers.atomic import naming, temporary_beside


def move_path(source: Path, target: Path, progress: Progress = SILENT) -> None:
    """Move `source` to `target`, whose folder is made if need be.

    Raises TargetExists, WriteFailed, DiskFull, SourceChanged, Cancelled; then `source` is there.
    """
    refuse_taken(source, target)
    with naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        _move_link(source, target)
    elif source.is_dir():
        _move_folder(source, target, progress)
    else:
        _move_file(source, target, progress)


def refuse_taken(source: Path, target: Path) -> None:
    """Raises TargetExists for a name that something else has.

    Where systems do not tell cases apart, `Ink` is taken by `ink`, but not for that file itself.
    """
    if os.path.lexists(target) and not _is_only_spelled_otherwise(source, target):
        raise TargetExists("already exists", path=target)


def _is_only_spelled_otherwise(source: Path, target: Path) -> bool:
    if source.parent != target.parent or source.name == target.name:
        return False
    names = os.listdir(source.parent)  # noqa: PTH208 - as the disk spells them
    return target.name not in names and source.samefile(target)


def on_one_disk(source: Path, folder: Path) -> bool:
    """Whether moving into a folder (or what is there of its path) needs no copy."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return source.lstat().st_dev == place.stat().st_dev


def _move_link(source: Path, target: Path) -> None:
    """The link, not what it leads to; it goes on leading there."""
    symlink(Path(leads_to(source)), target)
    _remove(source, target)


def _move_file(source: Path, target: Path, progress: Progress) -> None:
    if _linked(source, target):
        _remove(source, target)
        return
    refuse_taken(source, target)
    if not _renamed(source, target):
        _copy(source, target, progress)
        _remove(source, target)


def _linked(source: Path, target: Path) -> bool:
    """A second name, which refuses to be one that is taken; False where there is none.

    That is so on other disks, without hard links, and for names that differ in case only.
    """
    try:
        target.hardlink_to(source)
    except (OSError, NotImplementedError):
        return False
    return True


def _renamed(source: Path, target: Path) -> bool:
    """Rename on one disk; False for another disk."""
    with naming(target):
        try:
            source.rename(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            return False
    return True


def _copy(source: Path, target: Path, progress: Progress) -> None:
    copy(source, target, progress)
    try:
        _require_equal(source, target)
        with naming(target):
            shutil.copymode(source, target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _require_equal(source: Path, target: Path) -> None:
    """The original goes next: what the disk gives back must be what it was given."""
    with contextlib.ExitStack() as stack:
        one, other = FileBytes(source), FileBytes(target)
        stack.callback(one.close)
        stack.callback(other.close)
        for offset in range(0, one.size, BLOCK_BYTES):
            length = min(BLOCK_BYTES, one.size - offset)
            if one.pread(offset, length) != other.pread(offset, length):
                raise WriteFailed("the disk gives back other bytes", path=target)


def _remove(source: Path, target: Path) -> None:
    """The old name goes; where it cannot, the new one does."""
    try:
        source.unlink()
    except OSError as error:
        target.unlink(missing_ok=True)
        cause = f"cannot be moved away: {error.strerror or error}"
        raise WriteFailed(cause, path=source) from error


def _move_folder(source: Path, target: Path, progress: Progress) -> None:
    if _renamed(source, target):
        return
    whole = temporary_beside(target)
    try:
        with naming(target):
            shutil.copytree(
                source,
                whole,
                symlinks=True,
                copy_function=lambda one, other: _copy(Path(one), Path(other), progress),
            )
            refuse_taken(source, target)
            whole.rename(target)
    except shutil.Error as error:
        raise WriteFailed("cannot be copied whole", path=target) from error
    finally:
        shutil.rmtree(whole, ignore_errors=True)
    try:
        shutil.rmtree(source)
    except OSError as error:
        cause = f"was copied, but not all of it can be removed: {error.strerror or error}"
        raise WriteFailed(cause, path=source) from error
