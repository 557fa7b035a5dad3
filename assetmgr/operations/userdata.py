"""What users typed, out of a library and into another: tags, notes and ratings by content."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converters.bytesource import FileBytes
from converters.errors import CorruptFile, FileProblem

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset
    from registry.tables.typed import Typed

VERSION = 1
MAX_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: assets that got something, and names of contents that are not here."""

    changed: int
    unchanged: int
    unknown: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The document of the command."""
        return {
            "changed": self.changed,
            "unchanged": self.unchanged,
            "unknown": list(self.unknown),
        }


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    blake3: str | None
    tags: tuple[str, ...]
    note: str | None
    rating: int | None


def export_userdata(workspace: Workspace) -> dict[str, object]:
    """Everything typed on the assets of a library, by the hashes of their content."""
    read = (_read_now(workspace, typed) for typed in workspace.library.typed())
    return {"version": VERSION, "assets": [_entry_json(typed) for typed in read]}


def _read_now(workspace: Workspace, typed: Typed) -> Typed:
    """With the hashes of what a scan has only seen until now: that is read, if it can be."""
    from registry.scanning.scanner import scan_file

    if typed.blake3 is not None:
        return typed
    path = workspace.library.get(typed.asset_id).path
    try:
        hashes = {} if path is None else scan_file(workspace.library, path).hashes
    except FileProblem:
        return typed
    return typed._replace(blake3=hashes.get("blake3"), sha256=hashes.get("sha256"))


def _entry_json(typed: Typed) -> dict[str, object]:
    """What a document has of an asset: all but its number, which is of one library."""
    values = typed._asdict() | {"tags": list(typed.tags)}
    del values["asset_id"]
    return values


def import_userdata(workspace: Workspace, path: Path, *, overwrite: bool = False) -> Imported:
    """Put what another library exported on the assets of the same content.

    Tags are added; a note or rating that is there already stays unless `overwrite`. Raises
    FileProblem for a file that is no export; nothing is changed then.
    """
    library = workspace.library
    changed = unchanged = 0
    unknown: list[str] = []
    for entry in _read(path):
        number = None if entry.blake3 is None else library.find_hash(entry.blake3)
        if number is None:
            unknown.append(entry.name)
            continue
        asset = library.get(number)
        if _apply(workspace, asset, entry, overwrite=overwrite):
            changed += 1
        else:
            unchanged += 1
    return Imported(changed, unchanged, tuple(unknown))


def _apply(workspace: Workspace, asset: Asset, entry: _Entry, *, overwrite: bool) -> bool:
    library = workspace.library
    tags = [tag for tag in entry.tags if tag not in asset.tags]
    note = entry.note if overwrite or not asset.note else asset.note
    rating = entry.rating if overwrite or asset.rating is None else asset.rating
    note, rating = note or asset.note, asset.rating if rating is None else rating
    if tags:
        library.tag([asset.id], tags)
    if note != asset.note:
        library.note(asset.id, note)
    if rating != asset.rating:
        library.rate(asset.id, rating)
    return bool(tags) or note != asset.note or rating != asset.rating


def _read(path: Path) -> list[_Entry]:
    source = FileBytes(path)
    if source.size > MAX_BYTES:
        raise CorruptFile(f"is longer than {MAX_BYTES >> 30} GB", path=path)
    try:
        document = json.loads(source.pread(0, source.size))
    except (ValueError, RecursionError):
        raise CorruptFile("is not JSON", path=path) from None
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise CorruptFile(f"is no export of version {VERSION}", path=path)
    try:
        return [_entry(value) for value in document["assets"]]
    except (KeyError, TypeError, ValueError):
        raise CorruptFile("is an export with an entry that is none", path=path) from None


def _entry(value: dict[str, object]) -> _Entry:
    name, blake3, note, rating = (value[key] for key in ("name", "blake3", "note", "rating"))
    tags = value["tags"]
    if not isinstance(name, str) or not isinstance(blake3, str | None):
        raise TypeError
    if blake3 is not None and len(blake3) != 64:
        raise ValueError
    if not isinstance(note, str | None) or not isinstance(tags, list):
        raise TypeError
    if rating is not None and (type(rating) is not int or not 0 <= rating <= 5):
        raise ValueError
    return _Entry(name, blake3, tuple(map(_word, tags)), note, rating)


def _word(tag: object) -> str:
    if not isinstance(tag, str) or not tag.strip():
        raise ValueError
    return tag
