"""Every hash of files, each from one read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from assetmgr.operations.failures import Failure
from assetmgr.operations.walk import model_files
from converters.containers import Model, open_model
from converters.errors import AssetmgrError, FileProblem
from converters.hashing import HashedFile, hash_file
from converters.progress import SILENT, Progress


@dataclass(frozen=True, slots=True)
class Hashes:
    """The hashes of one file; `weights` are None when it is no model."""

    path: Path
    hashed: HashedFile

    def to_json(self) -> dict[str, object]:
        """The document of the contract."""
        size = self.hashed.fingerprint.size
        return {"path": str(self.path), "bytes": size, **hashes_json(self.hashed)}


def hashes_json(hashed: HashedFile | None) -> dict[str, str | None]:
    """All hashes by their names; null where there are none."""
    found = hashed.hashes if hashed else None
    return {
        "blake3": found.blake3 if found else None,
        "sha256": found.sha256 if found else None,
        "crc32": found.crc32 if found else None,
        "autov1": found.autov1 if found else None,
        "autov2": found.autov2 if found else None,
        "autov3": found.autov3 if found else None,
        "weights": hashed.weights.whole if hashed and hashed.weights else None,
    }


def hash_paths(paths: Iterable[str], progress: Progress = SILENT) -> Iterator[Hashes | Failure]:
    """Hash files, and the model files in folders; whole-file hashes exist for any file."""
    for path in model_files(paths):
        try:
            yield Hashes(path, _hash(path, progress))
        except AssetmgrError as error:
            yield Failure.of(error, path)


def _hash(path: Path, progress: Progress) -> HashedFile:
    model = _open(path)
    progress.stage(f"hashing {path.name}", model.nbytes if model else None)
    if model is None:
        return hash_file(path, progress)
    return hash_opened(path, model, progress)


def hash_opened(path: Path, model: Model, progress: Progress) -> HashedFile:
    """All hashes of an opened file. Raises FileProblem when it or a tensor cannot be read."""
    state = model.state_dict
    hashed = hash_file(path, progress, header_bytes=model.header_bytes, weights_of=state)
    if hashed.unread is not None:
        raise hashed.unread
    return hashed


def _open(path: Path) -> Model | None:
    """The model, for the hashes of its inside; None for a file of any other sort."""
    try:
        return open_model(path)
    except FileProblem:
        return None
