"""A model as it lies on a disk: a file, or the folder of a pipeline."""

from __future__ import annotations

import os
import stat

from converters.bytesource import FileBytes, Fingerprint
from converters.containers import Model, is_pipeline, open_model
from converters.digest import Parts, bytes_to_digest
from converters.errors import FileMissing, FileProblem, FileUnreadable
from converters.hashing import HashedFile, hash_file
from converters.hashing_folder import fingerprint_of_folder, hash_folder
from converters.progress import Progress
from converters.statedict import StateDict
from converters.stored import StoredTensors, Structure

MOST_TIMES = 3
"""Hostile tensors overlap to many times their file: a scan, which reads every file once, leaves
those to who asks. Tied and fused tensors count twice."""
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
    path: str,
    progress: Progress,
    header_bytes: int | None = None,
    kind: str | None = None,
    structure: Structure | None = None,
) -> HashedFile:
    """Every hash from one read; of a model of a `kind` the digests too. Raises FileProblem.

    `structure` is that of a safetensors file whose header was read before.
    """
    state = None if kind is None else _tensors(path, structure, header_bytes)
    parts = {} if state is None or kind is None else _parts(state, kind)
    if is_pipeline(path):
        return hash_folder(path, progress, weights_of=state, parts=parts)
    return hash_file(path, progress, header_bytes=header_bytes, weights_of=state, parts=parts)


def _parts(state: StateDict, kind: str) -> Parts:
    from converters.canonical import canonical_parts  # not for scans that find nothing new

    return canonical_parts(state, kind)


def is_worth_digesting(model: Model) -> bool:
    """Whether a scan digests the tensors of a model; the rest waits for those who ask."""
    state, structure = model.state_dict, structure_of(model)
    nbytes = bytes_to_digest(state) if structure is None else structure.nbytes
    return 0 < nbytes <= MOST_TIMES * model.nbytes and len(state) <= MOST_TENSORS


def structure_of(model: Model) -> Structure | None:
    """What a safetensors file has in common with others; None of other containers."""
    stored = model.state_dict.tensors
    return stored.structure if isinstance(stored, StoredTensors) else None


def _tensors(path: str, structure: Structure | None, header_bytes: int | None) -> StateDict | None:
    """What is to be digested of a model."""
    try:
        if structure is not None and header_bytes is not None:
            return StateDict(StoredTensors(structure, FileBytes(path), header_bytes))
        model = open_model(path)
    except FileProblem:  # it was one a moment ago; hashing tells what is wrong now
        return None
    return model.state_dict if is_worth_digesting(model) else None
