"""Bring the library up to date with folders and files: the only module that reads model files.

A scan goes three times through what it found: by the names, sizes and times of files it sees what
changed; new files are recorded when their headers were read, so that they are seen at once; then
all that is new or changed is hashed, small files side by side, large ones one after the other. What
older releases named is looked into again (`naming`), once.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from converters.errors import (
    AssetmgrError,
    BeingWritten,
    FileMissing,
    FileProblem,
    SourceChanged,
)
from converters.hashing import FileHashes
from converters.progress import SILENT, Progress
from converters.suffixes import MODEL_SUFFIXES
from registry.library import Library
from registry.records import Asset, Source
from registry.scanning.batching import batches_for
from registry.scanning.knowledge import refresh
from registry.scanning.looking import Looked, Waiting, is_fresh, look_into, read
from registry.scanning.on_disk import fingerprint_of
from registry.scanning.parts import incomplete
from registry.scanning.places import canonical, is_mount, require_mounted, within
from registry.scanning.renamed import followed
from registry.scanning.scan_records import (
    Content,
    KnownFile,
    Outcome,
    ScanError,
    ScannedFile,
    ScanReport,
)
from registry.scanning.side_by_side import Hashed, SideBySide, attempt, is_small
from registry.scanning.walk import Walk
from registry.tables.states import MISSING, PRESENT

STILL_SECONDS = 0.5
"""A file that may be unfinished is looked at again after so long: it has grown, or it is broken."""

BEHIND = 4_000
"""Names come first: hashes are recorded only when so many wait, or all files were looked into. Of a
scan that is killed before, their files are hashed again."""

_PAUSED = "written to a moment ago: scan again if it is still arriving, else fetch it again"
_CONNECT = "connect the disk; nothing that is known of its files is lost"
_ABSENT = "connect its disk; or take it out of the library with assetmgr forget FOLDER"

Paths = Sequence[str | os.PathLike[str]]


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
    source: Source | None = None,
) -> Asset:
    """Record one file now; with `hashes` that are known already it is not read again.

    `source` is where it came from. A file whose content is not understood is recorded as unknown.
    Raises FileProblem when it cannot be read at all.
    """
    place = canonical(path)
    scanned, _ = read(Waiting(place, fingerprint_of(place)), progress, hashes)
    return library.record_file(scanned, source)


def _is_other(path: str) -> bool:
    """Whether a file that was recorded by itself is there, though walks take no such files."""
    place = Path(path)
    return place.suffix.lower() not in MODEL_SUFFIXES and place.is_file()


@dataclass(slots=True)
class _Met:
    """What a walk found, sorted by what is to be done."""

    new: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    back: list[int] = field(default_factory=list)
    unnamed: dict[int, str] = field(default_factory=dict)
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
    small: SideBySide = field(init=False)
    read: set[int] = field(default_factory=set)
    hashed: int = 0
    paused: set[str] = field(default_factory=set)
    """Files that look broken, and were written to a moment ago."""

    def run(self, paths: Paths) -> ScanReport:
        """From the folders to the report."""
        started = time.monotonic()
        self.library.begin_naming()
        known = self.library.known_files()
        self._look_through(paths, known)
        self.library.add_mounts(self.walk.mounts())
        known, moved = self._follow(known)
        met = self._sorted_out(known)
        if met.back:
            self.library.restore(met.back)
        with SideBySide(len(met.new)) as self.small:
            waiting = [*self._look_into(met.new, met.fresh), *met.waiting]
            if waiting:  # hashes that sidecars claim are candidates until these have their own
                refresh(self.library, self.walk, self.progress)
            self._hash(waiting)
        for lacking in incomplete(met.new, self.walk.files, self.walk.others):
            self._fail(lacking)
        self._name(met.unnamed)
        settled = self.library.settle(self.new, self._vanished(known))
        told = refresh(self.library, self.walk, self.progress)
        return ScanReport(
            roots=tuple(self.roots),
            added=self.outcomes[Outcome.ADDED] - settled.moved,
            updated=self.outcomes[Outcome.UPDATED],
            moved=settled.moved + moved,
            missing=settled.missing,
            restored=self.outcomes[Outcome.RESTORED] + met.restored,
            unchanged=self.outcomes[Outcome.UNCHANGED] + met.same - moved,
            failed=len(self.errors),
            bytes_hashed=self.hashed,
            seconds=time.monotonic() - started,
            errors=tuple(self.errors),
            contradicted=self.library.contradictions(self.read | told),
        )

    def _look_through(self, given: Paths, known: Mapping[str, KnownFile]) -> None:
        for path in given or self.library.roots():
            try:
                root = self.library.add_root(path)
                require_mounted(root, known)
            except FileProblem as error:
                error.hint = error.hint or (None if given else _ABSENT)
                self._fail(error)
                place = canonical(path)
                self.library.set_offline(
                    [file.id for name, file in known.items() if within(name, place)]
                )
                continue
            self.roots.append(root)
            self.walk.add(root)
        if not given:
            self._look_outside(known)
        for problem in self.walk.problems:
            self._fail(problem)

    def _look_outside(self, known: Mapping[str, KnownFile]) -> None:
        """Files that were recorded by themselves, in none of the library's folders."""
        roots = self.library.roots()
        for path in known:
            is_met = path in self.walk.files or any(within(path, root) for root in roots)
            if not is_met and not self.walk.reaches(path):
                self.walk.visit(path)

    def _follow(self, known: Mapping[str, KnownFile]) -> tuple[Mapping[str, KnownFile], int]:
        """What is known when files that were renamed have their new places, and how many did."""
        renamed = followed(known, self.walk.files)
        if not renamed:
            return known, 0
        self.library.relocate(
            *((file.id, path, file.fingerprint) for path, (_, file) in renamed.items())
        )
        left = {old for old, _ in renamed.values()}
        stayed = {path: file for path, file in known.items() if path not in left}
        there = {path: file._replace(state=PRESENT) for path, (_, file) in renamed.items()}
        return stayed | there, len(renamed)

    def _vanished(self, known: Mapping[str, KnownFile]) -> list[int]:
        """The numbers of places where nothing is any more; parts of pipelines are forgotten."""
        unmet = [
            path
            for path in known
            if path not in self.walk.files and self.walk.reaches(path) and not _is_other(path)
        ]
        if not unmet:
            return []
        parts = {path for path in unmet if self._is_part(path)}
        if parts:
            self.library.dissolve([known[path].id for path in parts])
        away = self._away([path for path in unmet if known[path].state != MISSING])
        if away:
            self.library.set_offline([known[path].id for path in away])
        return [known[path].id for path in unmet if path not in parts and path not in away]

    def _away(self, unmet: Sequence[str]) -> set[str]:
        """Those on disks that were mounted when they were seen, and are not now: each is named."""
        away: set[str] = set()
        for mount in sorted(self.library.mounts()):
            there = set() if is_mount(mount) else {path for path in unmet if within(path, mount)}
            if there:
                self._fail(FileMissing("its disk is not mounted", path=mount, hint=_CONNECT))
            away |= there
        return away

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
                if not old.is_named:
                    met.unnamed[old.asset_id] = path
        return met

    def _look_into(self, new: Sequence[str], fresh: Sequence[str]) -> list[Waiting]:
        """Record new files by their headers; gives what is to be hashed yet.

        Known files that were written to lately are only asked whether they are whole.
        """
        self.progress.stage("looking into files", len(new) + len(fresh), "files")
        large: list[Waiting] = []
        unfinished: list[Looked] = []

        def see(files: Sequence[Looked]) -> None:
            self.library.record_files([looked.scanned() for looked in files])
            if self.small.ready >= BEHIND:
                done = self.small.done()
                self._record_hashed([one for hashed in done for one in self._taken(hashed)])
            for file in (looked.recorded for looked in files):
                (self.small.start if is_small(file) else large.append)(file)

        with batches_for(see) as add:
            for looked in self._looked(new, unfinished):
                self._note(looked.problem)
                add(looked)
        large += [looked.unrecorded for looked in self._looked(fresh, unfinished)]
        return large + self._finished(unfinished)

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
            if fingerprint != looked.fingerprint:
                self._fail(_being_written(looked.path))
            else:
                self.paused.add(looked.path)
                still.append(looked.unrecorded)
        return still

    def _hash(self, waiting: Sequence[Waiting]) -> None:
        """Hash what was not hashed while other files were looked into."""
        for file in filter(is_small, waiting):
            self.small.start(file)
        large = [file for file in waiting if not is_small(file)]
        left = self.small.nbytes + sum(file.fingerprint.size for file in large)
        self.progress.stage("hashing", self.hashed + left)
        if self.hashed:
            self.progress.advance(self.hashed)
        with batches_for(self._record_hashed) as add:
            for done in self.small.rest():
                for scanned in self._taken(done):
                    add(scanned)
                self.progress.advance(done.file.fingerprint.size)
        with batches_for(self._record_hashed) as add:
            for file in large:
                for scanned in self._taken(attempt(file, self.progress)):
                    add(scanned)

    def _name(self, unnamed: Mapping[int, str]) -> None:
        """Look again into the headers of what older rules named."""
        if not unnamed:
            return
        self.progress.stage("identifying", len(unnamed), "files")

        def record(named: Sequence[tuple[int, Content]]) -> None:
            self.library.record_contents(dict(named))

        with batches_for(record) as add:
            for asset_id, path in unnamed.items():
                self.progress.advance()
                try:
                    looked = look_into(path)
                except FileProblem as error:
                    self._fail(error)
                    continue
                if looked.fingerprint == self.walk.files[path]:
                    self._note(looked.problem)
                    add((asset_id, looked.content))

    def _taken(self, hashed: Hashed) -> Iterator[ScannedFile]:
        """What is to be recorded of a file that was hashed; else its problem is noted."""
        if isinstance(hashed.result, SourceChanged):
            self._fail(_being_written(hashed.file.path))
        elif isinstance(hashed.result, FileProblem):
            self._fail(hashed.result)
        else:
            scanned, problem = hashed.result
            self.hashed += scanned.bytes
            self._note(problem)
            yield scanned

    def _record_hashed(self, files: Sequence[ScannedFile]) -> None:
        for recorded in self.library.record_files(files):
            if recorded is None:
                continue
            self.outcomes[recorded.outcome] += 1
            self.read.add(recorded.asset_id)
            if recorded.outcome is Outcome.ADDED:
                self.new.append(recorded.file_id)

    def _note(self, problem: FileProblem | None) -> None:
        if problem is not None:
            self._fail(problem)

    def _fail(self, error: AssetmgrError) -> None:
        path = error.path or ""
        hint = _PAUSED if path in self.paused else error.hint
        self.errors.append(ScanError(path, error.cause, error.code, hint))


def _being_written(path: str) -> BeingWritten:
    return BeingWritten("is still being written", path=path, hint="scan again when it is complete")
