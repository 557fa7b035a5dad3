"""Which files in another program's folder are ours: kept there, in a hidden file.

A file counts as ours while it is as we left it. The manifest is written before the first link is
made (its entry has no `seen` yet) and again afterwards, so that whatever ends the program between
the two, the next run still knows what it made.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from assetmgr.operations.file_links import LinkKind, leads_to
from converters.bytesource import FileBytes, Fingerprint
from converters.errors import CorruptFile, FileMissing
from converters.writers.atomic import write_whole

NAME = ".assetmgr-links.json"
VERSION = 1
MAX_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of ours: `path` with slashes below the folder, `target` the file it stands for.

    `item` is the same as `path`, but for the files of a folder that had to be made file by file:
    then it is the path of the folder. `seen` is how the file itself looked after it was made, `of`
    how its target did then; both are None for what was only announced.
    """

    asset: int
    item: str
    path: str
    target: str
    kind: LinkKind
    seen: Fingerprint | None = None
    of: Fingerprint | None = None

    def place(self, directory: Path) -> Path:
        """Where it lies."""
        return directory.joinpath(*self.path.split("/"))

    @property
    def source(self) -> str:
        """The file or folder of the asset that the whole item stands for."""
        inner = len(PurePosixPath(self.path).relative_to(self.item).parts)
        return self.target if not inner else os.fspath(Path(self.target).parents[inner - 1])

    def is_ours(self, directory: Path) -> bool:
        """Whether what lies there is what we made, unchanged. False where nothing lies."""
        place = self.place(directory)
        try:
            now = os.lstat(place)
            if self.seen is None:
                return self._is_as_announced(place, Fingerprint.of(now))
        except OSError:
            return False
        if self.kind is LinkKind.HARDLINK:  # its bytes may be edited under the other name
            return now.st_ino == self.seen.inode
        if self.kind is LinkKind.COPY:  # FAT and network drives give files new numbers
            return (now.st_size, now.st_mtime_ns) == (self.seen.size, self.seen.mtime_ns)
        return Fingerprint.of(now) == self.seen

    def _is_as_announced(self, place: Path, now: Fingerprint) -> bool:
        """Whether it was made, in whichever way turned out to be possible. Raises OSError."""
        if place.is_symlink():
            return leads_to(place) == os.path.normpath(self.target)
        target = Fingerprint.of(os.stat(self.target))
        same_file = now.inode == target.inode
        return same_file or (now.size, now.mtime_ns) == (target.size, target.mtime_ns)

    def is_sound(self, directory: Path) -> bool:
        """Whether what is ours still shows its target as it is now."""
        place = self.place(directory)
        try:
            target = Fingerprint.of(os.stat(self.target))
            if self.kind is LinkKind.SYMLINK:
                return leads_to(place) == os.path.normpath(self.target)
            if self.kind is LinkKind.HARDLINK:
                return os.lstat(place).st_ino == target.inode
        except OSError:
            return False
        return self.of in {None, target}

    def is_last(self, directory: Path) -> bool:
        """Whether removing it could lose bytes: a hard link or copy whose target is not there."""
        if self.kind is LinkKind.SYMLINK:
            return False
        try:
            if self.kind is LinkKind.HARDLINK:
                return os.lstat(self.place(directory)).st_nlink < 2
            return os.stat(self.target).st_size != os.lstat(self.place(directory)).st_size
        except OSError:
            return True

    def made(self, directory: Path) -> Entry:
        """The entry with how things look now that the file is made. Raises OSError."""
        seen = Fingerprint.of(os.lstat(self.place(directory)))
        return replace(self, seen=seen, of=Fingerprint.of(os.stat(self.target)))


@dataclass(frozen=True, slots=True)
class Manifest:
    """All files of ours by path, and the folders that were made for them."""

    layout: str
    entries: Mapping[str, Entry]
    folders: tuple[str, ...] = ()


def read_manifest(directory: Path) -> Manifest | None:
    """What the folder has of ours; None where there is no manifest.

    Raises CorruptFile for one that breaks its own rules: nothing is touched then.
    """
    path = directory / NAME
    try:
        source = FileBytes(path)
    except FileMissing:
        return None
    try:
        if source.size > MAX_BYTES:
            raise CorruptFile(f"is longer than {MAX_BYTES >> 20} MB", path=path)
        document = json.loads(source.pread(0, source.size))
        return _manifest(document)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        hint = "move it away; what it lists then counts as not ours"
        raise CorruptFile("is no list of links of ours", path=path, hint=hint) from None
    finally:
        source.close()


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Keep a manifest, in place of the old one. Raises WriteProblem."""
    document = {
        "version": VERSION,
        "layout": manifest.layout,
        "folders": list(manifest.folders),
        "links": [_entry_json(entry) for entry in manifest.entries.values()],
    }
    text = json.dumps(document, indent=1) + "\n"
    write_whole(directory / NAME, text.encode("ascii"), overwrite=True)


def _entry_json(entry: Entry) -> dict[str, object]:
    return {
        "asset": entry.asset,
        "item": entry.item,
        "path": entry.path,
        "target": entry.target,
        "as": entry.kind.value,
        "seen": _numbers(entry.seen),
        "of": _numbers(entry.of),
    }


def _numbers(state: Fingerprint | None) -> list[int] | None:
    return None if state is None else [state.size, state.mtime_ns, state.inode]


def _manifest(document: object) -> Manifest:
    """Raises KeyError, TypeError or ValueError."""
    if not isinstance(document, dict) or document["version"] != VERSION:
        raise ValueError
    entries = [_entry(value) for value in document["links"]]
    folders = tuple(_inside(folder) for folder in document["folders"])
    return Manifest(_text(document["layout"]), {entry.path: entry for entry in entries}, folders)


def _entry(value: Mapping[str, object]) -> Entry:
    if type(value["asset"]) is not int:
        raise TypeError
    path, item = _inside(value["path"]), _inside(value["item"])
    if path != item and not path.startswith(f"{item}/"):
        raise ValueError
    return Entry(
        asset=value["asset"],
        item=item,
        path=path,
        target=_text(value["target"]),
        kind=LinkKind(_text(value["as"])),
        seen=_state(value["seen"]),
        of=_state(value["of"]),
    )


def _state(value: object) -> Fingerprint | None:
    if value is None:
        return None
    if not isinstance(value, list) or not _are_numbers(value):
        raise TypeError
    size, mtime_ns, inode = value
    return Fingerprint(size, mtime_ns, inode)


def _are_numbers(values: Iterable[object]) -> bool:
    return all(type(value) is int for value in values)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise TypeError
    return value


def _inside(value: object) -> str:
    """A path below the folder: whoever wrote the file, nothing outside is touched for it."""
    path = _text(value)
    parts = PurePosixPath(path).parts
    outside = path.startswith("/") or ".." in parts or PureWindowsPath(path).anchor
    if outside or "/".join(parts) != path:
        raise ValueError
    return path
