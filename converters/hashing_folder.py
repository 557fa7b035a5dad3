"""The hashes of a model that is a folder: those of its weight files, put together.

BLAKE3 is put together as InvokeAI does (`invokeai/backend/model_hash/model_hash.py`): over the
hexadecimal texts of the hashes of all weight files, in the order of their paths; SHA-256 and CRC32
after the same pattern. Configurations are not part of it.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from blake3 import blake3

from converters.bytesource import Fingerprint
from converters.digest import Parts, WeightsDigest
from converters.errors import FileMissing, FileUnreadable, SourceChanged
from converters.hashing import NO_PARTS, FileHashes, HashedFile, finished, hash_file
from converters.progress import SILENT, Progress
from converters.statedict import StateDict

WEIGHTS = (".ckpt", ".safetensors", ".bin", ".pt", ".pth")
"""Endings of the files that InvokeAI counts as weights."""


def fingerprint_of_folder(folder: str | os.PathLike[str]) -> Fingerprint:
    """All files' sizes together, the newest of their times, and the folder's inode.

    Raises FileMissing or FileUnreadable.
    """
    try:
        found = [os.stat(path) for path in _files(Path(folder))]
        inode = os.stat(folder).st_ino
    except FileNotFoundError as error:
        raise FileMissing("vanished while it was looked at", path=folder) from error
    except OSError as error:
        raise FileUnreadable(f"cannot be read: {error.strerror}", path=folder) from error
    newest = max((status.st_mtime_ns for status in found), default=0)
    return Fingerprint(sum(status.st_size for status in found), newest, inode)


def hash_folder(
    folder: str | os.PathLike[str],
    progress: Progress = SILENT,
    *,
    weights_of: StateDict | None = None,
    parts: Parts = NO_PARTS,
) -> HashedFile:
    """Hash all weight files of a folder in one read.

    `weights_of` are the tensors of the model in it and asks for their digests, `parts` its
    components as they are to be compared. Raises FileProblem when one of the files cannot be read,
    SourceChanged when the folder was modified meanwhile.
    """
    before = fingerprint_of_folder(folder)
    digest = None if weights_of is None else WeightsDigest(weights_of, parts)
    paths = sorted(path for path in _files(Path(folder)) if path.name.endswith(WEIGHTS))
    found = [
        hash_file(path, progress, also=[digest.stream(path)] if digest else []).hashes
        for path in paths
    ]
    weights, unread = finished(digest)
    if fingerprint_of_folder(folder) != before:
        raise SourceChanged("was modified while being read", path=folder)
    sha256 = hashlib.sha256(_texts(found, lambda part: part.sha256)).hexdigest()
    hashes = FileHashes(
        blake3=blake3(_texts(found, lambda part: part.blake3)).hexdigest(),
        sha256=sha256,
        crc32=f"{zlib.crc32(_texts(found, lambda part: part.crc32)):08x}",
        autov1=hashlib.sha256().hexdigest()[:8],  # of nothing: a window into one file
    )
    return HashedFile(hashes, weights, before, unread)


def _texts(parts: list[FileHashes], choose: Callable[[FileHashes], str]) -> bytes:
    return "".join(map(choose, parts)).encode("ascii")


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def _raise(error: OSError) -> None:
    raise error
