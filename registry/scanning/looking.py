"""One file on its way into the library: its headers are read first, all of its bytes later."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import ReferenceType

from converters.bytesource import Fingerprint
from converters.containers import open_model
from converters.errors import (
    CorruptFile,
    EmptyFile,
    FileMissing,
    FileProblem,
    FileUnreadable,
    SourceChanged,
    TruncatedFile,
)
from converters.hashing import FileHashes, HashedFile
from converters.progress import Progress
from converters.stored import Structure
from converters.tensor_table import PackedWeights
from registry.records import Claim
from registry.scanning.claims import claims_of
from registry.scanning.content import not_understood, understood
from registry.scanning.on_disk import fingerprint_of, hash_model, is_worth_digesting, structure_of
from registry.scanning.scan_records import Content, ScannedFile

FRESH_SECONDS = 60
"""A broken file that was written to so lately may be one that still arrives."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What the headers of a file tell; `problem` is why its content is unknown or dangerous.

    `kind` is what it is, of a model whose tensors are to be digested, `structure` where they lie in
    a file that need not be opened for them again.
    """

    path: str
    fingerprint: Fingerprint
    content: Content
    header_bytes: int | None
    problem: FileProblem | None
    claims: tuple[Claim, ...] = ()
    kind: str | None = None
    structure: Structure | None = None

    @property
    def may_be_unfinished(self) -> bool:
        """Whether it looks like a part of a file, and was written to a moment ago."""
        is_partial = isinstance(self.problem, TruncatedFile | CorruptFile | EmptyFile)
        return is_partial and is_fresh(self.fingerprint)

    @property
    def recorded(self) -> Waiting:
        """What is left to do when this was recorded."""
        shared = None if self.structure is None else ReferenceType(self.structure)
        inside = (self.header_bytes, self.kind, shared)
        return Waiting(self.path, self.fingerprint, *inside, is_recorded=True)

    @property
    def unrecorded(self) -> Waiting:
        """What is left to do when this was not recorded."""
        return Waiting(self.path, self.fingerprint)

    def scanned(self, hashed: HashedFile | None = None) -> ScannedFile:
        """The file as it is recorded, with its hashes or before them."""
        fingerprint = self.fingerprint if hashed is None else hashed.fingerprint
        return _scanned(self.path, fingerprint, hashed, self.content, self.claims)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A file that is to be hashed; one that is not recorded as it is now is looked into first.

    Thousands wait at a time, so they keep no headers: `shared` is there as long as the reader keeps
    it for the next files.
    """

    path: str
    fingerprint: Fingerprint
    header_bytes: int | None = None
    kind: str | None = None
    shared: ReferenceType[Structure] | None = None
    is_recorded: bool = False

    @property
    def structure(self) -> Structure | None:
        """Where the tensors lie, if that is still known."""
        return None if self.shared is None else self.shared()


def is_fresh(fingerprint: Fingerprint) -> bool:
    """Whether a file was written to a moment ago, by the clock of this machine."""
    return abs(time.time() - fingerprint.mtime_ns / 1e9) < FRESH_SECONDS


def look_into(path: str) -> Looked:
    """Open and identify a file. Raises FileProblem when its bytes cannot be read at all.

    An index whose shards are not there, or not yet, is a file that is not understood.
    """
    fingerprint = fingerprint_of(path)
    claims = claims_of(path, fingerprint.size)
    try:
        model = open_model(path)
    except FileProblem as problem:
        is_unread = isinstance(problem, FileMissing | FileUnreadable)
        if is_unread and (problem.path == path or Path(path).is_dir()):
            raise
        content = not_understood(problem)
        return Looked(path, fingerprint, content, None, problem, claims)
    content, start = understood(model), model.header_bytes
    kind = content.kind if is_worth_digesting(model) else None
    structure = structure_of(model)
    return Looked(path, fingerprint, content, start, model.danger, claims, kind, structure)


def read(
    waiting: Waiting, progress: Progress, hashes: FileHashes | None = None
) -> tuple[ScannedFile, FileProblem | None]:
    """Hash a file, or believe `hashes` that are known; look into it where that is to be done.

    Raises FileProblem when it cannot be read, SourceChanged when it never stands still.
    """
    try:
        return _read(waiting, progress, hashes)
    except SourceChanged:
        return _read(replace(waiting, is_recorded=False), progress, hashes)


def _read(
    waiting: Waiting, progress: Progress, hashes: FileHashes | None
) -> tuple[ScannedFile, FileProblem | None]:
    looked = None if waiting.is_recorded else look_into(waiting.path)
    before = waiting if looked is None else looked
    if hashes is not None:
        hashed = HashedFile(hashes, None, before.fingerprint)
    else:
        inside = (before.header_bytes, before.kind, before.structure)
        hashed = hash_model(waiting.path, progress, *inside)
    if hashed.fingerprint != before.fingerprint:
        raise SourceChanged("was modified while being read", path=waiting.path)
    if looked is None:
        return _scanned(waiting.path, hashed.fingerprint, hashed, None), hashed.unread
    scanned = looked.scanned(hashed)
    if hashes is not None and looked.kind is not None:
        scanned = replace(scanned, is_undigested=True)
    return scanned, looked.problem or hashed.unread


def _scanned(
    path: str,
    fingerprint: Fingerprint,
    hashed: HashedFile | None,
    content: Content | None,
    claims: tuple[Claim, ...] = (),
) -> ScannedFile:
    weights = None if hashed is None else hashed.weights
    return ScannedFile(
        path=path,
        bytes=fingerprint.size,
        mtime_ns=fingerprint.mtime_ns,
        inode=fingerprint.inode,
        hashes=None if hashed is None else hashed.hashes,
        weights=None if weights is None else PackedWeights.of(weights),
        content=content,
        claims=claims,
    )
