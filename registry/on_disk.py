"""A model as it lies on a disk: a file, or the folder of a pipeline."""

from __future__ import annotations

import os
import stat

from converters.bytesource import Fingerprint
from converters.containers import Model, is_pipeline, open_model
from converters.digest import Parts
from converters.errors import FileMissing, FileProblem, FileUnreadable
from converters.hashing import HashedFile, hash_file
from converters.hashing_folder import fingerprint_of_folder, hash_folder
from converters.kinds import Kind
from converters.progress import Progress
from converters.statedict import StateDict
from converters.stored import StoredTensors

MOST_TIMES = 3
"""Quantised tensors unpack to many times their file, and hostile ones overlap: a scan, which reads
every file once, leaves both to those who ask. Tied and fused tensors count twice."""
LEAST_BYTES = 16 << 10
"""An adapter with smaller tensors on average takes longer to digest than to hash, by far: thousands
of such files are scanned at once, and AutoV3 knows them by their tensors too."""
MOST_TENSORS = 100_000
"""Far above any model; the digests of a file of nothing but names would not fit into memory."""


def fingerprint_of(path: str) -> Fingerprint:
    """What must stay as it is while the model is read. Raises FileMissing or FileUnreadable."""
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise FileMissing("no such file", path=path) from error
    except OSError as error:
        raise FileUnreadable(f"cannot be read: {error.strerror}", path=path) from error
    is_folder = stat.S_ISDIR(status.st_mode) and is_pipeline(path)
    return fingerprint_of_folder(path) if is_folder else Fingerprint.of(status)


def hash_model(
    path: str, progress: Progress, header_bytes: int | None = None, kind: str | None = None
) -> HashedFile:
    """Every hash from one read; of a model of a `kind` the digests too. Raises FileProblem."""
    state = None if kind is None else _tensors(path, kind)
    parts = {} if state is None or kind is None else _parts(state, kind)
    if is_pipeline(path):
        return hash_folder(path, progress, weights_of=state, parts=parts)
    return hash_file(path, progress, header_bytes=header_bytes, weights_of=state, parts=parts)


def _parts(state: StateDict, kind: str) -> Parts:
    from converters.canonical import canonical_parts  # not for scans that find nothing new

    return canonical_parts(state, kind)


def is_worth_digesting(model: Model, kind: str) -> bool:
    """Whether a scan digests the tensors of a model of a kind; the rest waits for those who ask."""
    state, stored = model.state_dict, model.state_dict.tensors
    nbytes = stored.structure.nbytes if isinstance(stored, StoredTensors) else state.nbytes
    if kind == Kind.LORA and nbytes < LEAST_BYTES * len(state):
        return False
    return 0 < nbytes <= MOST_TIMES * model.nbytes and len(state) <= MOST_TENSORS


def _tensors(path: str, kind: str) -> StateDict | None:
    """What is to be digested of a model."""
    try:
        model = open_model(path)
    except FileProblem:  # it was one a moment ago; hashing tells what is wrong now
        return None
    return model.state_dict if is_worth_digesting(model, kind) else None
