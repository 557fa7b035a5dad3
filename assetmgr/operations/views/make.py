"""Another program's folder view of the library: make it, bring it up to date, take it away.

Only what the manifest calls ours is ever replaced or removed, and only while it is as we left it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from assetmgr.operations import file_links
from assetmgr.operations.failures import Failure
from assetmgr.operations.file_links import LinkKind
from assetmgr.operations.views.manifest import NAME, Entry, Manifest, write_manifest
from assetmgr.operations.views.plan import (
    ViewPlan,
    ViewRequest,
    Wanted,
    plan_removal,
    plan_view,
)
from assetmgr.operations.views.wishes import Skipped
from converters.errors import AssetmgrError, Cancelled, FileProblem, WriteFailed
from converters.progress import SILENT, Progress
from converters.writers.atomic import TEMPORARY_SUFFIX, naming

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

__all__ = ["View", "ViewRequest", "link_view", "unlink_view"]

_NO_SYMLINKS = (
    "--as hardlink or --as copy needs none; Windows makes them in its developer mode only"
)


@dataclass(frozen=True, slots=True)
class View:
    """What was done to a folder, or with a dry run what would be done.

    `linked` of a dry run are one for each asset and picture; their kind is None where the first way
    that works is taken.
    """

    layout: str
    directory: Path
    linked: tuple[Entry | Wanted, ...]
    removed: tuple[Entry, ...]
    kept: int
    skipped: tuple[Skipped, ...]
    failures: tuple[Failure, ...] = ()

    def to_json(self) -> dict[str, object]:
        """The document of the command, without its errors."""
        return {
            "layout": self.layout or None,
            "directory": str(self.directory),
            "linked": [_linked_json(self.directory, link) for link in self.linked],
            "removed": [str(entry.place(self.directory)) for entry in self.removed],
            "kept": self.kept,
            "skipped": [
                {"asset": item.asset, "path": item.path, "reason": item.reason}
                for item in self.skipped
            ],
        }


def _linked_json(directory: Path, link: Entry | Wanted) -> dict[str, object]:
    target = link.target if isinstance(link, Entry) else str(link.source)
    return {
        "asset": link.asset,
        "path": str(directory.joinpath(*link.path.split("/"))),
        "target": target,
        "as": None if link.kind is None else link.kind.value,
    }


def link_view(
    workspace: Workspace,
    request: ViewRequest,
    progress: Progress = SILENT,
    *,
    dry_run: bool = False,
) -> View:
    """Make or update a view. What cannot be linked is among the failures.

    Raises BadValue, CorruptFile for a broken manifest, WriteProblem when it cannot be written, and
    Cancelled; what was made until then is known as ours.
    """
    return _carry_out(plan_view(workspace, request), progress, dry_run=dry_run)


def unlink_view(
    request: ViewRequest, progress: Progress = SILENT, *, dry_run: bool = False
) -> View:
    """Take away everything that is ours. Raises as `link_view`."""
    return _carry_out(plan_removal(request), progress, dry_run=dry_run)


def _carry_out(plan: ViewPlan, progress: Progress, *, dry_run: bool) -> View:
    if dry_run:
        kept = len(plan.keep)
        return View(plan.layout, plan.directory, plan.make, plan.remove, kept, plan.skipped)
    run = _Run(plan, progress)
    run.carry_out()
    return View(
        plan.layout,
        plan.directory,
        tuple(run.linked),
        tuple(run.removed),
        len(plan.keep),
        plan.skipped,
        tuple(run.failures),
    )


class _Run:
    """One run of a plan; the manifest tells at any moment what may be ours."""

    def __init__(self, plan: ViewPlan, progress: Progress) -> None:
        self._plan, self._progress = plan, progress
        self._directory = plan.directory
        self._entries = {entry.path: entry for entry in (*plan.keep, *plan.remove)}
        self._folders = dict.fromkeys(plan.folders)
        self.linked: list[Entry] = []
        self.removed: list[Entry] = []
        self.failures: list[Failure] = []

    def carry_out(self) -> None:
        """Remove, make, and keep account of it."""
        plan = self._plan
        if not plan.make and not plan.remove and not (self._directory / NAME).exists():
            return
        self._progress.stage("linking", len(plan.make), "links")
        if plan.make:
            self._make_folders(self._directory)
        try:
            for entry in plan.remove:
                self._remove(entry)
            for wanted in plan.make:
                self._announce(wanted)
            self._save()
            for wanted in plan.make:
                self._make(wanted)
                self._progress.advance()
        finally:
            self._settle()

    def _announce(self, wanted: Wanted, inside: Path | None = None) -> Entry:
        """Count a file, or one inside of a folder, and the folders it needs as ours from now on."""
        name = "" if inside is None else f"/{inside.as_posix()}"
        path = f"{wanted.path}{name}"
        source = wanted.source if inside is None else wanted.source / inside
        kind = wanted.kind or LinkKind.SYMLINK
        entry = Entry(wanted.asset, wanted.path, path, os.fspath(source), kind)
        self._entries[path] = entry
        folder = PurePosixPath(path).parent
        missing = [each for each in (folder, *folder.parents) if not self._is_there(each)]
        self._folders.update(dict.fromkeys(str(each) for each in reversed(missing)))
        return entry

    def _is_there(self, folder: PurePosixPath) -> bool:
        return folder == PurePosixPath() or os.path.lexists(self._place(str(folder)))

    def _remove(self, entry: Entry) -> None:
        """Checked again right before: the plan may be old."""
        place = entry.place(self._directory)
        if not entry.is_ours(self._directory) or entry.is_last(self._directory):
            return
        try:
            _unlink(place)
        except AssetmgrError as error:
            self.failures.append(Failure.of(error, place))
            return
        del self._entries[entry.path]
        self.removed.append(entry)

    def _make(self, wanted: Wanted) -> None:
        try:
            made = list(self._made(wanted))
        except Cancelled:
            raise
        except AssetmgrError as error:
            self.failures.append(Failure.of(error, self._place(wanted.path)))
            return
        self._entries |= {entry.path: entry for entry in made}
        self.linked += made

    def _made(self, wanted: Wanted) -> Iterator[Entry]:
        """The files that stand for what is wanted. Raises AssetmgrError when there is no way."""
        self._make_folders(self._place(wanted.path).parent)
        if not wanted.source.is_dir():
            yield self._link(self._entries[wanted.path], wanted.kind)
            return
        if wanted.kind in {None, LinkKind.SYMLINK}:
            try:
                yield self._link(self._entries[wanted.path], LinkKind.SYMLINK)
            except WriteFailed:
                if wanted.kind is LinkKind.SYMLINK:
                    raise
            else:
                return
        yield from self._file_by_file(wanted)

    def _file_by_file(self, wanted: Wanted) -> Iterator[Entry]:
        """A folder that cannot be linked as one: the files in it are."""
        inside = sorted(_files(wanted.source))
        del self._entries[wanted.path]
        entries = [self._announce(wanted, name) for name in inside]
        self._save()
        kind = LinkKind.HARDLINK if wanted.kind is None else wanted.kind
        for entry in entries:
            self._make_folders(entry.place(self._directory).parent)
            made = self._link(entry, kind, or_copy=wanted.kind is None)
            self._entries[made.path] = made
            yield made

    def _link(self, entry: Entry, kind: LinkKind | None, *, or_copy: bool = False) -> Entry:
        """The one file, in the way asked for or else the first that works."""
        place, source = entry.place(self._directory), Path(entry.target)
        for way in (kind, *((LinkKind.COPY,) * or_copy)) if kind else tuple(LinkKind):
            try:
                self._link_as(way, source, place)
            except WriteFailed:
                if way is LinkKind.COPY or (kind is not None and not or_copy):
                    raise
                continue
            with naming(place):
                return Entry(entry.asset, entry.item, entry.path, entry.target, way).made(
                    self._directory
                )
        raise AssertionError("the last way returns or raises")

    def _link_as(self, way: LinkKind, source: Path, place: Path) -> None:
        if way is LinkKind.SYMLINK:
            with _told_of_other_ways():
                file_links.symlink(source, place, relative=self._is_near(source))
        elif way is LinkKind.HARDLINK:
            file_links.hard_link(source, place)
        else:
            file_links.copy(source, place, self._progress)

    def _is_near(self, source: Path) -> bool:
        """Whether both would move together: a relative link then still leads there."""
        from registry.scanning.places import within

        return within(os.path.realpath(source.parent), os.path.realpath(self._directory.parent))

    def _make_folders(self, folder: Path) -> None:
        with naming(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def _settle(self) -> None:
        """Folders that nothing is in any more go; the manifest says what is there now."""
        for path, entry in list(self._entries.items()):
            if entry.seen is None and not os.path.lexists(entry.place(self._directory)):
                del self._entries[path]
        if self.removed:
            deepest_first = sorted(self._folders, key=lambda name: -len(PurePosixPath(name).parts))
            for name in deepest_first:
                if _remove_empty(self._place(name)):
                    del self._folders[name]
        if not self._entries:
            self._folders.clear()
        self._save()

    def _save(self) -> None:
        if self._entries or self._folders:
            manifest = Manifest(self._plan.layout, self._entries, tuple(self._folders))
            write_manifest(self._directory, manifest)
        else:
            with naming(self._directory / NAME):
                (self._directory / NAME).unlink(missing_ok=True)

    def _place(self, path: str) -> Path:
        return self._directory.joinpath(*path.split("/"))


@contextlib.contextmanager
def _told_of_other_ways() -> Iterator[None]:
    """Who asked for symbolic links where there are none learns what to do."""
    try:
        yield
    except WriteFailed as error:
        error.hint = error.hint or _NO_SYMLINKS
        raise


def _unlink(place: Path) -> None:
    """Remove a file or a symbolic link, on Windows also one to a folder."""
    with naming(place):
        try:
            place.unlink()
        except PermissionError:
            if not (place.is_symlink() and place.is_dir()):
                raise
            place.rmdir()


def _remove_empty(folder: Path) -> bool:
    """Whether a folder was empty and is gone now."""
    try:
        folder.rmdir()
    except OSError:
        return not os.path.lexists(folder)
    return True


def _files(folder: Path) -> Iterator[Path]:
    """The files of a model's folder, relative to it; hidden and unfinished ones are left out."""

    def closed(error: OSError) -> None:
        raise FileProblem(f"cannot be read: {error.strerror}", path=error.filename) from error

    for where, folders, names in os.walk(folder, onerror=closed):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and not name.endswith(TEMPORARY_SUFFIX):
                yield Path(where, name).relative_to(folder)
