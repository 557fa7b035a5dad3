"""Bring the library up to date with folders and files: the only module that reads model files.

A scan goes three times through what it found: by the names, sizes and times of files it sees what
changed; new files are recorded when their headers were read, so that they are seen at once; then
all that is new or changed is hashed, small files side by side, large ones one after the other.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePath

from converters.errors import (
    AssetmgrError,
    BeingWritten,
    FileProblem,
    FileUnreadable,
    SourceChanged,
)
from converters.hashing import SMALL_BYTES, FileHashes
from converters.progress import SILENT, Progress
from registry.batching import batches_for
from registry.knowledge import refresh
from registry.library import Library
from registry.looking import Looked, Waiting, is_fresh, look_into, read
from registry.on_disk import fingerprint_of
from registry.places import canonical, require_mounted, within
from registry.records import (
    MISSING,
    PRESENT,
    Asset,
    KnownFile,
    Outcome,
    ScanError,
    ScannedFile,
    ScanReport,
)
from registry.text import storable
from registry.walk import Walk

STILL_SECONDS = 0.5
"""A file that may be unfinished is looked at again after so long: it has grown, or it is broken."""
WORKERS = min(4, os.cpu_count() or 1)

Paths = Sequence[str | os.PathLike[str]]
_Read = tuple[ScannedFile, FileProblem | None]


def scan(library: Library, paths: Paths = (), progress: Progress = SILENT) -> ScanReport:
    """Add folders to the library, or look through all known ones, and record what changed.

    New files are in the library as soon as their headers were read; their hashes follow. Files of
    unchanged size, modification time and inode are not opened. What cannot be read or understood is
    in the report's `errors`; files of a folder that is not there are offline, not lost. Raises
    Cancelled; what was recorded until then stays, and the next scan goes on from there.
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
    scanned, _ = read(Waiting(place, fingerprint_of(place)), progress, hashes)
    return library.record_file(scanned)


@dataclass(slots=True)
class _Met:
    """What a walk found, sorted by what is to be done."""

    new: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    back: list[int] = field(default_factory=list)
    restored: int = 0
    same: int = 0


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
        known = self.library.known_files()
        self._look_through(paths or self.library.roots(), known)
        met = self._sorted_out(known)
        self.library.restore(met.back)
        self._hash([*self._look_into(met.new, met.fresh), *met.waiting])
        unmet = [path for path in known if path not in self.walk.files and self.walk.reaches(path)]
        parts = {path for path in unmet if self._is_part(path)}
        self.library.dissolve([known[path].id for path in parts])
        gone = [known[path].id for path in unmet if path not in parts]
        settled = self.library.settle(self.new, gone)
        refresh(self.library, self.walk, self.progress)
        return ScanReport(
            roots=tuple(self.roots),
            added=self.outcomes[Outcome.ADDED] - settled.moved,
            updated=self.outcomes[Outcome.UPDATED],
            moved=settled.moved,
            missing=settled.missing,
            restored=self.outcomes[Outcome.RESTORED] + met.restored,
            unchanged=self.outcomes[Outcome.UNCHANGED] + met.same,
            failed=len(self.errors),
            bytes_hashed=self.hashed,
            seconds=time.monotonic() - started,
            errors=tuple(self.errors),
        )

    def _look_through(self, paths: Paths, known: Mapping[str, KnownFile]) -> None:
        for path in paths:
            try:
                root = self.library.add_root(path)
                require_mounted(root, known)
            except FileProblem as error:
                self._fail(error)
                place = canonical(path)
                self.library.set_offline(
                    [file.id for name, file in known.items() if within(name, place)]
                )
                continue
            self.roots.append(root)
            self.walk.add(root)
        for problem in self.walk.problems:
            self._fail(problem)

    def _is_part(self, path: str) -> bool:
        """Whether a file that had a place of its own lies in a pipeline, which is one model."""
        return any(str(parent) in self.walk.files for parent in PurePath(path).parents)

    def _sorted_out(self, known: Mapping[str, KnownFile]) -> _Met:
        met = _Met()
        for path, fingerprint in self.walk.files.items():
            old = known.get(path)
            if old is None:
                met.new.append(path)
            elif old.fingerprint != fingerprint and is_fresh(fingerprint):
                met.fresh.append(path)
            elif old.fingerprint != fingerprint or not old.is_hashed:
                met.waiting.append(Waiting(path, fingerprint))
            else:
                met.same += old.state != MISSING
                met.restored += old.state == MISSING
                if old.state != PRESENT:
                    met.back.append(old.id)
        return met

    def _look_into(self, new: Sequence[str], fresh: Sequence[str]) -> list[Waiting]:
        """Record new files by their headers; gives what is to be hashed.

        Known files that were written to lately are only asked whether they are whole.
        """
        self.progress.stage("looking into files", len(new) + len(fresh), "files")
        found: list[Waiting] = []
        unfinished: list[Looked] = []
        with batches_for(self._record_seen) as add:
            for looked in self._looked(new, unfinished):
                add(looked.scanned())
                found.append(looked.recorded)
                self._note(looked.problem)
        found += [looked.unrecorded for looked in self._looked(fresh, unfinished)]
        return found + self._finished(unfinished)

    def _looked(self, paths: Sequence[str], unfinished: list[Looked]) -> Iterator[Looked]:
        """What can be read and looks whole; the others go to `unfinished`."""
        for path in paths:
            self.progress.advance()
            try:
                looked = look_into(path)
            except FileProblem as error:
                self._fail(error)
                continue
            if looked.may_be_unfinished:
                unfinished.append(looked)
            else:
                yield looked

    def _finished(self, unfinished: Sequence[Looked]) -> list[Waiting]:
        """Those that stand still are broken; the others are left alone until they do."""
        if unfinished:
            time.sleep(STILL_SECONDS)
        still: list[Waiting] = []
        for looked in unfinished:
            try:
                fingerprint = fingerprint_of(looked.path)
            except FileProblem as error:
                self._fail(error)
                continue
            if fingerprint == looked.fingerprint:
                still.append(looked.unrecorded)
            else:
                self._fail(_being_written(looked.path))
        return still

    def _hash(self, waiting: Sequence[Waiting]) -> None:
        small = [file for file in waiting if file.fingerprint.size <= SMALL_BYTES]
        large = [file for file in waiting if file.fingerprint.size > SMALL_BYTES]
        self.progress.stage("hashing", sum(file.fingerprint.size for file in waiting))
        with batches_for(self._record_hashed) as add:
            for file, result in self._read_small(small):
                self._take(file, result, add)
                self.progress.advance(file.fingerprint.size)
        with batches_for(self._record_hashed) as add:
            for file in large:
                self._take(file, _attempt(file, self.progress), add)

    def _read_small(
        self, files: Sequence[Waiting]
    ) -> Iterator[tuple[Waiting, _Read | FileProblem]]:
        """Hash files side by side: the hash functions leave the interpreter to the others."""
        running: deque[tuple[Waiting, Future[_Read | FileProblem]]] = deque()
        with ThreadPoolExecutor(WORKERS) as pool:
            for file in files:
                running.append((file, pool.submit(_attempt, file, SILENT)))
                if len(running) > 4 * WORKERS:
                    done, result = running.popleft()
                    yield done, result.result()
            while running:
                done, result = running.popleft()
                yield done, result.result()

    def _take(
        self, file: Waiting, result: _Read | FileProblem, add: Callable[[ScannedFile], None]
    ) -> None:
        if isinstance(result, SourceChanged):
            self._fail(_being_written(file.path))
        elif isinstance(result, FileProblem):
            self._fail(result)
        else:
            scanned, problem = result
            self.hashed += scanned.bytes
            add(scanned)
            self._note(problem)

    def _record_seen(self, files: Sequence[ScannedFile]) -> None:
        self.library.record_files(files)

    def _record_hashed(self, files: Sequence[ScannedFile]) -> None:
        for recorded in self.library.record_files(files):
            if recorded is None:
                continue
            self.outcomes[recorded.outcome] += 1
            if recorded.outcome is Outcome.ADDED:
                self.new.append(recorded.file_id)

    def _note(self, problem: FileProblem | None) -> None:
        if problem is not None:
            self._fail(problem)

    def _fail(self, error: AssetmgrError) -> None:
        self.errors.append(ScanError(error.path or "", error.cause, error.code, error.hint))


def _attempt(file: Waiting, progress: Progress) -> _Read | FileProblem:
    try:
        return read(file, progress)
    except FileProblem as problem:
        return problem


def _being_written(path: str) -> BeingWritten:
    return BeingWritten("is still being written", path=path, hint="scan again when it is complete")
