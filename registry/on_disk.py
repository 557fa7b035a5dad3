"""A model as it lies on a disk: a file, or the folder of a pipeline."""

from __future__ import annotations

import os

from converters.bytesource import Fingerprint
from converters.containers import is_pipeline
from converters.errors import FileMissing, FileUnreadable
from converters.hashing import HashedFile, hash_file
from converters.hashing_folder import fingerprint_of_folder, hash_folder
from converters.progress import Progress


def fingerprint_of(path: str) -> Fingerprint:
    """What must stay as it is while the model is read. Raises FileMissing or FileUnreadable."""
    if is_pipeline(path):
        return fingerprint_of_folder(path)
    try:
        return Fingerprint.of(os.stat(path))
    except FileNotFoundError as error:
        raise FileMissing("no such file", path=path) from error
    except OSError as error:
        raise FileUnreadable(f"cannot be read: {error.strerror}", path=path) from error


def hash_model(path: str, progress: Progress, header_bytes: int | None = None) -> HashedFile:
    """Every hash from one read. Raises FileProblem."""
    if is_pipeline(path):
        return hash_folder(path, progress)
    return hash_file(path, progress, header_bytes=header_bytes)
