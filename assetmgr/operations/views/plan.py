"""What has to be done to another program's folder so that it shows the chosen assets.

The plan is made from the library, the manifest and the names in the folders; nothing is written.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING

from assetmgr.operations.file_links import LinkKind
from assetmgr.operations.layouts import LAYOUTS
from assetmgr.operations.names import free_name
from assetmgr.operations.views.manifest import Entry, Manifest, read_manifest
from assetmgr.operations.views.wishes import Skipped, Wish, Wishing
from converters.errors import BadValue, FileUnreadable
from registry.text import fold

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset

PAGE = 500
PREVIEW_ENDING = ".preview.png"


@dataclass(frozen=True, slots=True)
class ViewRequest:
    """Which assets are shown to which program, where, and how.

    `kind` None means the first way that works: symbolic link, hard link, copy.
    """

    layout: str
    directory: Path
    query: str = ""
    kind: LinkKind | None = None
    previews: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """A link to make: `path` with slashes below the folder, to the file or folder `source`."""

    asset: int
    source: Path
    path: str
    kind: LinkKind | None


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """What is made, removed, left as it is, and not touched because it is not ours any more."""

    layout: str
    directory: Path
    make: tuple[Wanted, ...] = ()
    remove: tuple[Entry, ...] = ()
    keep: tuple[Entry, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    folders: tuple[str, ...] = ()


_Key = tuple[str, str]
"""A source and the folder in which it is shown."""


def plan_view(workspace: Workspace, request: ViewRequest) -> ViewPlan:
    """Compare what should be in a folder with what is ours there.

    Raises BadValue for a layout or query that means nothing, CorruptFile for a broken manifest.
    """
    layout = LAYOUTS.get(request.layout)
    if layout is None:
        raise BadValue(f"no layout {request.layout!r}; there are {', '.join(LAYOUTS)}")
    directory = request.directory.absolute()
    if os.path.lexists(directory) and not directory.is_dir():
        raise FileUnreadable("is not a folder", path=directory)
    manifest = read_manifest(directory) or Manifest(request.layout, {})
    wishing = Wishing(layout, directory, manifest, with_pictures=request.previews)
    answers = map(wishing.of, _assets(workspace, request.query))
    return _Planner(request, directory, manifest).plan(filter(None, answers))


def _assets(workspace: Workspace, query: str) -> Iterator[Asset]:
    """In pages: only what is wished for stays in memory."""
    offset = 0
    while page := workspace.library.assets(query, sort="id", limit=PAGE, offset=offset):
        yield from page
        offset += len(page)


def plan_removal(request: ViewRequest) -> ViewPlan:
    """Everything of ours goes. Raises CorruptFile for a broken manifest."""
    directory = request.directory.absolute()
    manifest = read_manifest(directory) or Manifest(request.layout, {})
    remove, skipped = _removable(directory, manifest.entries.values())
    kept = tuple(entry for entry in manifest.entries.values() if _is_kept_back(entry, directory))
    return ViewPlan(
        manifest.layout,
        directory,
        remove=remove,
        keep=kept,
        skipped=skipped,
        folders=manifest.folders,
    )


def _is_kept_back(entry: Entry, directory: Path) -> bool:
    return entry.is_ours(directory) and entry.is_last(directory)


def _removable(
    directory: Path, entries: Iterable[Entry]
) -> tuple[tuple[Entry, ...], tuple[Skipped, ...]]:
    """What of ours can go, and what cannot; what is gone already is neither."""
    remove: list[Entry] = []
    skipped: list[Skipped] = []
    for entry in entries:
        if not os.path.lexists(entry.place(directory)):
            continue
        if not entry.is_ours(directory):
            skipped.append(Skipped(entry.asset, entry.path, "was changed since it was linked"))
        elif entry.is_last(directory):
            reason = "is the only one left of its file, and stays"
            skipped.append(Skipped(entry.asset, entry.path, reason))
        else:
            remove.append(entry)
    return tuple(remove), tuple(skipped)


class _Planner:
    """One plan: the wishes of all assets against the items that are ours."""

    def __init__(self, request: ViewRequest, directory: Path, manifest: Manifest) -> None:
        self._request, self._directory, self._manifest = request, directory, manifest
        self._items: dict[str, list[Entry]] = {}
        for entry in manifest.entries.values():
            self._items.setdefault(entry.item, []).append(entry)
        self._taken: defaultdict[str, set[str]] = defaultdict(set)
        self._skipped: list[Skipped] = []

    def plan(self, answers: Iterable[Wish | Skipped]) -> ViewPlan:
        """The plan for what is wished, and for what cannot be shown."""
        wishes: list[Wish] = []
        for answer in answers:
            if isinstance(answer, Wish):
                wishes.append(answer)
            else:
                self._skipped.append(answer)
        known = self._known()
        self._reserve(known, wishes)
        make: list[Wanted] = []
        keep: list[Entry] = []
        done: set[str] = set()
        for wish in wishes:
            for each in self._with_picture(wish, known):
                done.add(each.path)
                if self._is_good(each):
                    keep += self._items[each.path]
                else:
                    make.append(each)
        return self._finished(make, keep, done)

    def _finished(self, make: list[Wanted], keep: list[Entry], done: set[str]) -> ViewPlan:
        anew = {wanted.path for wanted in make}
        remove: list[Entry] = []
        for item, entries in self._items.items():
            if item in done and item not in anew:
                continue
            removable, stuck = _removable(self._directory, entries)
            self._skipped += stuck
            if stuck and item in anew:  # half of it cannot be made anew
                anew.discard(item)
                keep += entries
            else:
                remove += removable
                keep += [entry for entry in entries if _is_kept_back(entry, self._directory)]
        return ViewPlan(
            self._request.layout,
            self._directory,
            make=tuple(wanted for wanted in make if wanted.path in anew),
            remove=tuple(remove),
            keep=tuple(keep),
            skipped=tuple(self._skipped),
            folders=self._manifest.folders,
        )

    def _known(self) -> Mapping[_Key, str]:
        """The items that are ours already, by what they show and where."""
        return {
            _key(entries[0].source, str(PurePosixPath(item).parent)): item
            for item, entries in self._items.items()
        }

    def _reserve(self, known: Mapping[_Key, str], wishes: Iterable[Wish]) -> None:
        """Names of items that stay, and of files that are not ours, are no names for new ones."""
        stay = {known.get(_key(str(wish.source), wish.folder)) for wish in wishes}
        for folder in {wish.folder for wish in wishes}:
            free = {
                PurePosixPath(entry.path).name
                for entry in self._manifest.entries.values()
                if str(PurePosixPath(entry.path).parent) == folder
                and entry.item not in stay
                and entry.is_ours(self._directory)
                and not entry.is_last(self._directory)
            }
            there = set(_names(self._directory / folder)) - free
            self._taken[folder] |= {fold(name) for name in there}

    def _with_picture(self, wish: Wish, known: Mapping[_Key, str]) -> Iterator[Wanted]:
        path = known.get(_key(str(wish.source), wish.folder))
        if path is None or self._is_foreign(path):
            theirs = f"{wish.folder}/{wish.name}"
            if self._shows(theirs, wish.source):
                reason = "is linked there already, not by us"
                self._skipped.append(Skipped(wish.asset, theirs, reason))
                return
            name = free_name(wish.name, self._taken[wish.folder])
            self._taken[wish.folder].add(fold(name))
            path = f"{wish.folder}/{name}"
        yield Wanted(wish.asset, wish.source, path, self._request.kind)
        if wish.picture is None:
            return
        beside = f"{path.rpartition('.')[0] or path}{PREVIEW_ENDING}"
        if self._is_foreign(beside):
            reason = "another picture lies there"
            self._skipped.append(Skipped(wish.asset, beside, reason))
        else:
            yield Wanted(wish.asset, wish.picture, beside, self._request.kind)

    def _is_foreign(self, path: str) -> bool:
        """Whether something lies there that is not ours, or not any more."""
        place = self._directory.joinpath(*path.split("/"))
        entries = self._items.get(path, [])
        if not os.path.lexists(place):
            return False
        if place.is_dir() and not place.is_symlink():
            return not entries
        return not any(entry.is_ours(self._directory) for entry in entries)

    def _shows(self, path: str, source: Path) -> bool:
        """Whether what lies there, whoever put it there, is the very file."""
        try:
            return self._directory.joinpath(*path.split("/")).samefile(source)
        except OSError:
            return False

    def _is_good(self, wanted: Wanted) -> bool:
        """Whether an item of ours shows this already, in the way that is asked for."""
        entries = self._items.get(wanted.path, [])
        return bool(entries) and all(
            entry.is_ours(self._directory)
            and entry.is_sound(self._directory)
            and entry.source == os.fspath(wanted.source)
            and wanted.kind in {None, entry.kind}
            for entry in entries
        )


def _key(source: str, folder: str) -> _Key:
    return os.path.normcase(os.path.normpath(source)), folder


def _names(folder: Path) -> list[str]:
    """What lies in a folder; nothing where there is none yet."""
    try:
        return [PurePath(name).name for name in os.listdir(folder)]  # noqa: PTH208
    except OSError:
        return []
