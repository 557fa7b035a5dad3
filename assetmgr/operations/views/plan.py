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
from assetmgr.operations.layouts import LAYOUTS, Layout
from assetmgr.operations.names import free_name, safe_name
from assetmgr.operations.views.manifest import Entry, Manifest, read_manifest
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
class Skipped:
    """What is not linked or not removed, and why."""

    asset: int
    path: str
    reason: str


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


@dataclass(frozen=True, slots=True)
class _Wish:
    """A file that should be seen in a folder, under this name if it is free."""

    asset: int
    source: Path
    folder: str
    name: str
    picture: Path | None


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
    return _Planner(layout, request, directory, manifest).plan(_assets(workspace, request.query))


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

    def __init__(
        self, layout: Layout, request: ViewRequest, directory: Path, manifest: Manifest
    ) -> None:
        self._layout, self._request, self._directory = layout, request, directory
        self._manifest = manifest
        self._prefix = PurePosixPath(layout.prefix(directory))
        self._items: dict[str, list[Entry]] = {}
        for entry in manifest.entries.values():
            self._items.setdefault(entry.item, []).append(entry)
        self._ours = {
            _named(directory.joinpath(*path.split("/")))
            for entry in manifest.entries.values()
            if entry.is_ours(directory)
            for path in (entry.item, entry.path)
        }
        self._taken: defaultdict[str, set[str]] = defaultdict(set)
        self._skipped: list[Skipped] = []

    def plan(self, assets: Iterable[Asset]) -> ViewPlan:
        """The plan for these assets."""
        answers = [self._wish(asset) for asset in assets]
        wishes = [answer for answer in answers if isinstance(answer, _Wish)]
        self._skipped += [answer for answer in answers if isinstance(answer, Skipped)]
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

    def _wish(self, asset: Asset) -> _Wish | Skipped | None:
        """Where an asset belongs, or why it cannot be shown; None for one that is not there."""
        if asset.path is None:
            return None
        source = self._source(asset)
        if source is None:
            reason = "its file is not there any more; scan its folder"
            return Skipped(asset.id, asset.path, reason)
        is_pipeline = source.is_dir()
        folder = self._layout.folder(
            asset.kind, asset.base, is_pipeline=is_pipeline, variant=asset.variant
        )
        if folder is None:
            what = "diffusers folders" if is_pipeline else f"files of kind {asset.kind}"
            return Skipped(asset.id, str(source), f"{self._layout.title} does not use {what}")
        if not is_pipeline and not self._layout.reads(asset.kind, source.name):
            reason = f"{self._layout.title} reads no {source.suffix} files of kind {asset.kind}"
            return Skipped(asset.id, str(source), reason)
        below = str(self._prefix / folder)
        if self._lies_there(asset, below):
            return Skipped(asset.id, str(source), "lies in that folder already")
        picture = None if is_pipeline else self._picture(asset)
        return _Wish(asset.id, source, below, safe_name(source.name), picture)

    def _places(self, asset: Asset) -> Iterator[Path]:
        """Where the asset itself lies: links of ours that a scan has met are not its files."""
        for file in asset.files:
            path = Path(file.path)
            if file.here and file.state == "present" and not self._is_our_link(path):
                yield path

    def _is_our_link(self, path: Path) -> bool:
        return _named(path) in self._ours

    def _source(self, asset: Asset) -> Path | None:
        """The file that is linked: rather one that is no link itself."""
        there = [path for path in self._places(asset) if os.path.exists(path)]  # noqa: PTH110
        return min(there, key=lambda path: path.is_symlink(), default=None)

    def _lies_there(self, asset: Asset, folder: str) -> bool:
        from registry.scanning.places import within

        real = os.path.realpath(self._directory / folder)
        return any(within(str(path), real) for path in self._places(asset))

    def _known(self) -> Mapping[_Key, str]:
        """The items that are ours already, by what they show and where."""
        return {
            _key(entries[0].source, str(PurePosixPath(item).parent)): item
            for item, entries in self._items.items()
        }

    def _reserve(self, known: Mapping[_Key, str], wishes: Iterable[_Wish]) -> None:
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

    def _with_picture(self, wish: _Wish, known: Mapping[_Key, str]) -> Iterator[Wanted]:
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

    def _picture(self, asset: Asset) -> Path | None:
        """The picture of an asset that a render has verified, where pictures are asked for."""
        preview = asset.preview if self._request.previews else None
        if preview is None or preview.path is None or preview.verdict != "ok":
            return None
        picture = Path(preview.path)
        return picture if picture.suffix.lower() == ".png" and picture.is_file() else None


def _named(path: Path) -> str:
    """A place by the real name of its folder, as the library names it."""
    return os.path.normcase(Path(os.path.realpath(path.parent), path.name))


def _key(source: str, folder: str) -> _Key:
    return os.path.normcase(os.path.normpath(source)), folder


def _names(folder: Path) -> list[str]:
    """What lies in a folder; nothing where there is none yet."""
    try:
        return [PurePath(name).name for name in os.listdir(folder)]  # noqa: PTH208
    except OSError:
        return []
