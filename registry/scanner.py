"""Bring the library up to date with folders and files: the only module that reads model files."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from converters.bases import Base, Prediction
from converters.bytesource import Fingerprint
from converters.containers import Inspected, Model, open_model
from converters.errors import AssetmgrError, FileProblem, FileUnreadable
from converters.hashing import FileHashes, HashedFile, hash_file
from converters.identify import Kind, identify
from converters.pickles.safety import SAFE_NO_CODE
from converters.progress import SILENT, Progress
from registry.knowledge import refresh
from registry.library import Library
from registry.places import canonical
from registry.records import (
    MISSING,
    Asset,
    Content,
    Outcome,
    ScanError,
    ScannedFile,
    ScanReport,
)
from registry.tensor_rows import tensors_to_digest
from registry.text import storable
from registry.walk import Walk

BATCH_FILES = 64
BATCH_SECONDS = 1.0
"""Files are recorded when so many are ready, or when the first of them has waited so long."""

Paths = Sequence[str | os.PathLike[str]]


def scan(library: Library, paths: Paths = (), progress: Progress = SILENT) -> ScanReport:
    """Add folders to the library, or look through all known ones, and record what changed.

    Files of unchanged size, modification time and inode are not opened. What cannot be read or
    understood is in the report's `errors`; a folder that is not there loses nothing. Raises
    Cancelled; files recorded until then stay.
    """
    return _Scan(library, progress).run(paths)


def scan_file(
    library: Library,
    path: str | os.PathLike[str],
    progress: Progress = SILENT,
    hashes: FileHashes | None = None,
) -> Asset:
    """Record one file now; with `hashes` that are known already it is not read again.

    A file whose content is not understood is recorded as unknown. Raises FileProblem when it cannot
    be read at all.
    """
    place = canonical(path)
    if not storable(place):
        raise FileUnreadable("its name is not valid UTF-8", path=repr(place))
    scanned, _ = _read(place, progress, hashes)
    return library.record_file(scanned)


@dataclass(slots=True)
class _Scan:
    """One run: what was met, and what became of it."""

    library: Library
    progress: Progress
    walk: Walk = field(default_factory=Walk)
    roots: list[str] = field(default_factory=list)
    errors: list[ScanError] = field(default_factory=list)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    new: list[int] = field(default_factory=list)
    hashed: int = 0

    def run(self, paths: Paths) -> ScanReport:
        """From the folders to the report."""
        started = time.monotonic()
        self._look_through(paths or self.library.roots())
        known = self.library.known_files()
        changed, back, same = [], [], 0
        for path, fingerprint in self.walk.files.items():
            old = known.get(path)
            if old is None or old.fingerprint != fingerprint:
                changed.append(path)
            elif old.state == MISSING:
                back.append(old.id)
            else:
                same += 1
        self.library.restore(back)
        self._read_all(changed)
        gone = [
            old.id
            for path, old in known.items()
            if path not in self.walk.files and self.walk.reaches(path)
        ]
        settled = self.library.settle(self.new, gone)
        refresh(self.library, self.walk, self.progress)
        return ScanReport(
            roots=tuple(self.roots),
            added=self.outcomes[Outcome.ADDED] - settled.moved,
            updated=self.outcomes[Outcome.UPDATED],
            moved=settled.moved,
            missing=settled.missing,
            restored=self.outcomes[Outcome.RESTORED] + len(back),
            unchanged=self.outcomes[Outcome.UNCHANGED] + same,
            failed=len(self.errors),
            bytes_hashed=self.hashed,
            seconds=time.monotonic() - started,
            errors=tuple(self.errors),
        )

    def _look_through(self, paths: Paths) -> None:
        for path in paths:
            try:
                root = self.library.add_root(path)
            except FileProblem as error:
                self._fail(error)
                continue
            self.roots.append(root)
            self.walk.add(root)
        for problem in self.walk.problems:
            self._fail(problem)

    def _read_all(self, paths: Sequence[str]) -> None:
        total = sum(self.walk.files[path].size for path in paths)
        self.progress.stage("hashing", total)
        with _batches(self._record) as add:
            for path in paths:
                try:
                    scanned, problem = _read(path, self.progress)
                except FileProblem as error:
                    self._fail(error)
                    continue
                self.hashed += scanned.bytes
                add(scanned)
                if problem is not None:
                    self._fail(problem)

    def _record(self, files: Sequence[ScannedFile]) -> None:
        for recorded in self.library.record_files(files):
            self.outcomes[recorded.outcome] += 1
            if recorded.outcome is Outcome.ADDED:
                self.new.append(recorded.file_id)

    def _fail(self, error: AssetmgrError) -> None:
        self.errors.append(ScanError(error.path or "", error.cause, error.code, error.hint))


@contextmanager
def _batches(
    record: Callable[[Sequence[ScannedFile]], None],
) -> Iterator[Callable[[ScannedFile], None]]:
    """Collects files and records them together; whatever ends the block, all are recorded."""
    waiting: list[ScannedFile] = []
    since = time.monotonic()

    def flush() -> None:
        nonlocal since
        if waiting:
            record(waiting)
            waiting.clear()
        since = time.monotonic()

    def add(scanned: ScannedFile) -> None:
        waiting.append(scanned)
        if len(waiting) >= BATCH_FILES or time.monotonic() - since >= BATCH_SECONDS:
            flush()

    try:
        yield add
    finally:
        flush()


def _read(
    path: str, progress: Progress, hashes: FileHashes | None = None
) -> tuple[ScannedFile, FileProblem | None]:
    """Open, identify and hash a file; the problem is why its content is unknown or dangerous.

    Raises FileProblem when its bytes cannot be read.
    """
    model: Model | None = None
    problem: FileProblem | None
    try:
        model = open_model(path)
        problem = model.danger
    except FileProblem as error:
        problem = error
    header_bytes = None if model is None else model.header_bytes
    content = _not_understood(problem) if model is None else _understood(model)
    if hashes is None:
        state, parts = tensors_to_digest(model, content.kind)
        hashed = hash_file(path, progress, header_bytes=header_bytes, weights_of=state, parts=parts)
    else:
        hashed = HashedFile(hashes, None, _fingerprint(path))
    return _scanned(path, hashed, content), problem or hashed.unread


def _fingerprint(path: str) -> Fingerprint:
    try:
        return Fingerprint.of(os.stat(path))
    except OSError as error:
        raise FileUnreadable(f"cannot be read: {error.strerror}", path=path) from error


def _scanned(path: str, hashed: HashedFile, content: Content) -> ScannedFile:
    return ScannedFile(
        path=path,
        bytes=hashed.fingerprint.size,
        mtime_ns=hashed.fingerprint.mtime_ns,
        inode=hashed.fingerprint.inode,
        hashes=hashed.hashes,
        weights=hashed.weights,
        content=content,
    )


def _understood(model: Model) -> Content:
    state, identity = model.state_dict, identify(model.state_dict)
    return Content(
        kind=identity.kind,
        base=identity.base,
        variant=identity.variant,
        prediction=identity.prediction,
        algorithm=identity.algorithm,
        layout=identity.layout,
        container=model.container,
        rank=identity.rank,
        dtypes=Counter(tensor.dtype.label for tensor in state.values()),
        tensors=len(state),
        parameters=state.parameters,
        components=identity.components,
        confidence=identity.confidence,
        evidence=identity.evidence,
        problems=_each_once(model.problems, identity.problems),
        trigger_words=identity.trigger_words,
        metadata=state.metadata,
        safety=model.safety,
    )


def _not_understood(problem: FileProblem | None) -> Content:
    return Content(
        kind=Kind.UNKNOWN,
        base=Base.UNKNOWN,
        variant=None,
        prediction=Prediction.UNKNOWN,
        algorithm=(),
        layout=None,
        container=None,
        rank=None,
        dtypes={},
        tensors=0,
        parameters=0,
        components=(),
        confidence=0.0,
        evidence=(),
        problems=() if problem is None else (problem.cause,),
        trigger_words=(),
        metadata={},
        safety=problem.safety if isinstance(problem, Inspected) else SAFE_NO_CODE,
    )


def _each_once(*texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for some in texts for text in some))
