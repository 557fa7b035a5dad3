"""Copies replaced by links to one of them, and given their own bytes back.

A copy is replaced only right after it was compared byte for byte with the file that is kept. The
journal is written before that, the link takes the copy's name in one step: whenever the program
ends, the file is there, whole, and `undo_links` knows what was done to it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations import file_links
from assetmgr.operations.duplicates.journal import Replacement, journal_of
from assetmgr.operations.duplicates.pairs import Pair, Way, plan_links
from assetmgr.operations.failures import Failure
from converters.bytesource import FileBytes, Fingerprint
from converters.errors import (
    AssetmgrError,
    AssetNotFound,
    Cancelled,
    SourceChanged,
    WriteFailed,
)
from converters.progress import SILENT, Progress
from converters.writers.atomic import naming, sync_folder, temporary_beside

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from converters.hashing import FileHashes
    from registry.records import Asset

_OF_NOTHING = "e3b0c442"
BLOCK_BYTES = 4 << 20

_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


@dataclass(frozen=True, slots=True)
class Restored:
    """A file that has its own bytes again."""

    asset: int
    path: str
    bytes: int


def link_duplicates(
    workspace: Workspace, way: Way = Way.HARDLINK, progress: Progress = SILENT
) -> Iterator[Pair | Failure]:
    """Replace the copies one after the other. What cannot be replaced stays as it is: a Failure.

    Raises Cancelled; what was replaced until then is in the journal and the library.
    """
    for pair in plan_links(workspace, way):
        if isinstance(pair, Failure):
            yield pair
            continue
        try:
            _replace(workspace, pair, progress)
        except Cancelled:
            raise
        except AssetmgrError as error:
            yield Failure.of(error, pair.path)
        else:
            yield pair


def undo_links(
    workspace: Workspace, progress: Progress = SILENT, *, dry_run: bool = False
) -> Iterator[Restored | Failure]:
    """Give every file that was replaced its own copy of the bytes back, with its old time.

    Files that are not linked any more need nothing and are forgotten. What fails stays in the
    journal. Raises Cancelled, FileProblem for the journal.
    """
    journal = journal_of(workspace)
    replaced = journal.read()
    left = dict(replaced)
    try:
        for path, replacement in replaced.items():
            if not replacement.is_linked():
                del left[path]
                continue
            try:
                if not dry_run:
                    _restore(workspace, replacement, progress)
            except Cancelled:
                raise
            except AssetmgrError as error:
                yield Failure.of(error, path)
                continue
            del left[path]
            yield Restored(replacement.asset, path, replacement.bytes)
    finally:
        if not dry_run:
            _sweep(replaced.values())
            journal.rewrite(left)


def _replace(workspace: Workspace, pair: Pair, progress: Progress) -> None:
    """Compare, write down, link, let the link take the name, tell the library."""
    path, kept = Path(pair.path), Path(pair.kept)
    progress.stage(f"comparing {path.name}", pair.bytes)
    before, of_kept = _compare(path, kept, progress)
    temporary = temporary_beside(path)
    is_hard = pair.way is Way.HARDLINK
    with naming(path):
        mode = stat.S_IMODE(os.stat(path).st_mode)
    replacement = Replacement(
        asset=pair.asset,
        path=pair.path,
        kept=pair.kept,
        way=pair.way.value,
        temporary=temporary.name,
        bytes=pair.bytes,
        mtime_ns=before.mtime_ns,
        mode=mode,
        linked_mtime_ns=of_kept.mtime_ns if is_hard else before.mtime_ns,
        linked_inode=of_kept.inode if is_hard else 0,
    )
    journal_of(workspace).append(replacement)
    try:
        if is_hard:
            _hard_link(path, kept, temporary)
        else:
            _clone(kept, temporary, replacement)
        with naming(path):
            _require(path, before)
            _require(kept, of_kept)
            temporary.replace(path)
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    _tell_library(workspace, pair.asset, path)


def _compare(path: Path, kept: Path, progress: Progress) -> tuple[Fingerprint, Fingerprint]:
    """The state of two files that are equal byte for byte. Raises SourceChanged, FileProblem."""
    with contextlib.ExitStack() as stack:
        copy, original = FileBytes(path), FileBytes(kept)
        stack.callback(copy.close)
        stack.callback(original.close)
        if copy.size != original.size:
            raise _differs(path, kept)
        for offset in range(0, copy.size, BLOCK_BYTES):
            count = min(BLOCK_BYTES, copy.size - offset)
            if copy.pread(offset, count) != original.pread(offset, count):
                raise _differs(path, kept)
            progress.advance(count)
        copy.check_unchanged()
        original.check_unchanged()
        return copy.fingerprint, original.fingerprint


def _differs(path: Path, kept: Path) -> AssetmgrError:
    cause = f"has not the bytes of {kept}, though the library says so"
    return SourceChanged(cause, path=path, hint="assetmgr verify reads both again")


def _hard_link(path: Path, kept: Path, temporary: Path) -> None:
    try:
        file_links.hard_link(kept, temporary)
    except WriteFailed as error:  # of a name that nobody knows
        cause = error.__cause__
        is_usual = isinstance(cause, OSError) and cause.errno in _NO_HARD_LINKS
        hint = "FAT, exFAT and some network disks have no hard links" if is_usual else None
        reason = getattr(cause, "strerror", None) or error
        raise WriteFailed(f"cannot become a hard link: {reason}", path=path, hint=hint) from error


def _clone(kept: Path, temporary: Path, replacement: Replacement) -> None:
    """A file of its own, with the time and the permissions of the one it is for."""
    file_links.clone(kept, temporary)
    with naming(temporary):
        temporary.chmod(replacement.mode)
        os.utime(temporary, ns=(replacement.mtime_ns, replacement.mtime_ns))


def _require(path: Path, state: Fingerprint) -> None:
    """Raises SourceChanged for a file that is not in this state, OSError for one that is gone."""
    if Fingerprint.of(os.stat(path)) != state:
        raise SourceChanged("changed while it was being linked", path=path)


def _tell_library(workspace: Workspace, asset_id: int, path: Path) -> None:
    """The file's new state, so that the next scan need not hash it again.

    Symbolic links that lead to it have that state, too.
    """
    from registry.scanning.scanner import scan_file

    with contextlib.suppress(AssetNotFound):  # forgotten since: the next scan finds it
        asset = workspace.library.get(asset_id)
        hashes = _hashes(asset)
        if hashes is None:
            return
        others = (Path(file.path) for file in asset.files if file.here)
        for place in (path, *(other for other in others if _is_link_to(other, path))):
            scan_file(workspace.library, place, hashes=hashes)


def _is_link_to(other: Path, path: Path) -> bool:
    return other.is_symlink() and os.path.realpath(other) == os.path.realpath(path)


def _hashes(asset: Asset) -> FileHashes | None:
    """All that is known of its bytes; None while some of it is not."""
    from converters.hashing import FileHashes

    known = asset.hashes
    blake3, sha256, crc32 = known["blake3"], known["sha256"], known["crc32"]
    if blake3 is None or sha256 is None or crc32 is None:
        return None
    # A file too short for AutoV1 has the hash of nothing, which the library does not keep.
    return FileHashes(blake3, sha256, crc32, known["autov1"] or _OF_NOTHING, known["autov3"])


def _restore(workspace: Workspace, line: Replacement, progress: Progress) -> None:
    """A copy takes the link's place in one step. Raises AssetmgrError."""
    path = Path(line.path)
    progress.stage(f"copying {path.name}", line.bytes)
    with naming(path):
        now = os.stat(path)
    same = (now.st_size, now.st_mtime_ns) == (line.bytes, line.linked_mtime_ns)
    temporary = line.temporary_path
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
    try:
        file_links.copy(path, temporary, progress)
        with naming(path):
            if same:  # else it was edited as the link that it is, and keeps what it has now
                temporary.chmod(line.mode)
                os.utime(temporary, ns=(line.mtime_ns, line.mtime_ns))
            _require(path, Fingerprint.of(now))
            temporary.replace(path)
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    if same:
        _tell_library(workspace, line.asset, path)


def _sweep(lines: Iterable[Replacement]) -> None:
    """Links that never took their place: a crash came before."""
    for line in lines:
        with contextlib.suppress(OSError):
            line.temporary_path.unlink(missing_ok=True)
