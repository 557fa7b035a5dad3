"""Whose file is this? Looking assets up on Civitai by their hashes and those of their ancestors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.civitai.find import base_of
from assetmgr.operations.failures import Failure
from assetmgr.operations.hashing import Hashes, hash_paths, hashes_json
from assetmgr.sources.civitai import site as civitai
from assetmgr.sources.civitai.records import Version
from assetmgr.sources.transfers.transfer import SIZE_TOLERANCE
from assetmgr.sources.web import Web
from converters.containers import open_model
from converters.errors import AssetmgrError, AssetNotFound, FileProblem
from converters.progress import SILENT, Progress
from converters.transform.metadata import DERIVATION_KEY
from registry.document import BadDocument, Fields

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset

_ONE_BY_ONE = ("blake3", "autov3", "autov2")
"""Besides SHA-256, which is asked for in batches."""

_WEAK = ("crc32", "autov1")
"""Of 32 bits: believed only where size or SHA-256 of the file on the site speak for it."""

_ANY = "hash"
"""One of whatever sort, of a file that nothing else is known of."""

_DIGITS = frozenset({8, 10, 12, 64})
_HEX = frozenset("0123456789abcdef")

_SHOWN_OF_AUTOV3 = 12
_MOST_ANCESTORS = 200
_SHA256_OF_NOTHING = "e3b0c44298fc"
"""AutoV3 of a file without tensor data; it names nothing."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A file, or what is known of one: its hashes by their names, and its number if it has one."""

    name: str
    hashes: Mapping[str, str]
    asset: int | None = None
    path: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """A version that has the file; `by` names the hash, `ancestor` is None for the file itself."""

    version: Version
    by: str
    ancestor: Subject | None

    def to_json(self) -> dict[str, object]:
        """The entry of a document."""
        version = self.version
        through = self.ancestor
        return {
            "by": self.by,
            "ancestor": None if through is None else {"asset": through.asset, "name": through.name},
            "model": version.model_id,
            "model_name": version.model_name,
            "type": version.model_type,
            "version": version.id,
            "version_name": version.name,
            "base": base_of(version),
            "base_model": version.base,
            "trained_words": list(version.trained_words),
            "air": version.air,
        }


@dataclass(frozen=True, slots=True)
class Lookup:
    """What the site knows of a subject; no match means that it is unknown there."""

    subject: Subject
    matches: tuple[Match, ...]

    def to_json(self) -> dict[str, object]:
        """The document of the contract."""
        return {
            "asset": self.subject.asset,
            "path": self.subject.path,
            "name": self.subject.name,
            "sha256": self.subject.hashes.get("sha256"),
            "matches": [match.to_json() for match in self.matches],
        }


def lookup(
    workspace: Workspace, references: Sequence[str], progress: Progress = SILENT
) -> Iterator[Lookup | Failure]:
    """Look assets, files and hashes up; what is unknown there by its nearest known ancestors.

    Files that the library does not know are hashed; a hash that it does not know is asked for as it
    is. Raises NotAvailable.
    """
    subjects = [_subject(workspace, reference, progress) for reference in references]
    with civitai.connect() as web:
        asker = Asker(web, progress)
        asker.ask_together([one for one in subjects if isinstance(one, Subject)])
        for subject in subjects:
            found = subject if isinstance(subject, Failure) else find(workspace, asker, subject)
            yield found


def find(workspace: Workspace, asker: Asker, subject: Subject) -> Lookup:
    """The version that has a subject's file, or else those of its ancestors."""
    own = asker.ask(subject)
    return Lookup(subject, (own,) if own else tuple(_through_ancestors(workspace, asker, subject)))


def _subject(workspace: Workspace, reference: str, progress: Progress) -> Subject | Failure:
    try:
        asset = workspace.library.find(reference)
        if asset.hashes["sha256"] is not None or asset.path is None:
            return of_asset(asset)
        reference = asset.path  # only its headers were read until now
    except AssetNotFound as error:
        if not os.path.isfile(reference):  # noqa: PTH113  # never raises
            return _of_text(reference.lower()) or Failure.of(error, reference)
    except AssetmgrError as error:
        return Failure.of(error, reference)
    (result,) = hash_paths([reference], progress)
    return result if isinstance(result, Failure) else _of_file(result)


def _of_text(text: str) -> Subject | None:
    """A hash by itself; None for a text that is none."""
    is_hash = len(text) in _DIGITS and set(text) <= _HEX
    return Subject(text, {_ANY: text}) if is_hash else None


def of_asset(asset: Asset) -> Subject:
    """An asset by its hashes, of which it has none while only its headers were read."""
    hashes = {name: digest for name, digest in asset.hashes.items() if digest is not None}
    return Subject(asset.name, _with_autov2(hashes), asset.id, asset.path, asset.bytes)


def _of_file(hashed: Hashes) -> Subject:
    found = hashes_json(hashed.hashed)
    hashes = {
        name: digest
        for name, digest in found.items()
        if digest is not None and not digest.startswith(_SHA256_OF_NOTHING)
    }
    return Subject(
        Path(hashed.path).stem, hashes, None, str(hashed.path), hashed.hashed.fingerprint.size
    )


class Asker:
    """Asks the site for each hash once."""

    def __init__(self, web: Web, progress: Progress) -> None:
        self._web, self._progress = web, progress
        self._versions: dict[str, Version | None] = {}

    def ask_together(self, subjects: Sequence[Subject]) -> None:
        """Ask for all SHA-256 at once."""
        wanted = [one.hashes["sha256"] for one in subjects if "sha256" in one.hashes]
        new = [digest for digest in dict.fromkeys(wanted) if digest not in self._versions]
        if not new:
            return
        versions = civitai.by_sha256(self._web, new, self._progress)
        for digest in new:
            holders = (known for known in versions if known.with_hash("sha256", digest))
            self._versions[digest] = next(holders, None)

    def ask(self, subject: Subject) -> Match | None:
        """The version that has a file with one of the hashes, the surest first."""
        self.ask_together([subject])
        for name in ("sha256", *_ONE_BY_ONE, *_WEAK, _ANY):
            digest = subject.hashes.get(name)
            version = None if digest is None else self._version(name, digest)
            if version is None or digest is None:
                continue
            if name == _ANY:
                return Match(version, _name_of(version, digest), None)
            if name not in _WEAK or _is_same(version, name, digest, subject):
                return Match(version, name, None)
        return None

    def _version(self, name: str, digest: str) -> Version | None:
        asked = digest[:_SHOWN_OF_AUTOV3] if name == "autov3" else digest
        if asked not in self._versions:
            self._versions[asked] = civitai.by_hash(self._web, asked, self._progress)
        return self._versions[asked]


def _name_of(version: Version, digest: str) -> str:
    """Which hash of a version's files it is."""
    told = (name for file in version.files for name, own in file.hashes.items() if own == digest)
    return next(told, _ANY)


def _is_same(version: Version, name: str, digest: str, subject: Subject) -> bool:
    """Whether nothing that is known of a file contradicts a hash so short."""
    sha256, size = subject.hashes.get("sha256"), subject.size
    for file in version.files:
        if file.hashes.get(name) != digest:
            continue
        if sha256 is not None and file.hashes.get("sha256") is not None:
            return file.hashes["sha256"] == sha256
        return size is None or (file.size is not None and abs(file.size - size) <= SIZE_TOLERANCE)
    return False


def _through_ancestors(workspace: Workspace, asker: Asker, subject: Subject) -> Iterator[Match]:
    """The nearest ancestors that the site knows, on every line; lines end where one is found."""
    seen = {subject.hashes.get("sha256")}
    waiting = list(_parents(workspace, subject))
    for _ in range(_MOST_ANCESTORS):
        if not waiting:
            return
        asker.ask_together(waiting)
        parent = waiting.pop(0)
        key = parent.hashes.get("sha256") or parent.name
        if key in seen:
            continue
        seen.add(key)
        found = asker.ask(parent)
        if found is not None:
            yield Match(found.version, found.by, parent)
        else:
            waiting += _parents(workspace, parent)


def _parents(workspace: Workspace, subject: Subject) -> Iterator[Subject]:
    """What a file was made of: as the library knows it, and as its own metadata says."""
    if subject.asset is None:
        yield from _told(subject.name, _metadata(subject.path))
        return
    asset = workspace.library.get(subject.asset)
    for derived in asset.derived_from:
        if derived.asset is not None:
            yield of_asset(workspace.library.get(derived.asset))
        elif derived.parent_sha256 is not None:
            yield _of_hashes(derived.name, {"sha256": derived.parent_sha256})
    yield from _told(asset.name, asset.metadata)


def _metadata(path: str | None) -> Mapping[str, str]:
    """The texts in a file that the library does not know."""
    try:
        return {} if path is None else open_model(path).state_dict.metadata
    except FileProblem:
        return {}


def _told(name: str, metadata: Mapping[str, str]) -> Iterator[Subject]:
    """The parents in the metadata that conversions and merges of ours leave in their targets."""
    text = metadata.get(DERIVATION_KEY)
    if text is None:
        return
    try:
        fields = Fields.of(name, text.encode("utf-8", "replace"))
    except BadDocument:
        return
    for parent in fields.objects("parents"):
        hashes = parent.hashes()
        if hashes:
            yield _of_hashes(parent.text("name") or "?", hashes)


def _of_hashes(name: str, hashes: Mapping[str, str]) -> Subject:
    return Subject(name, _with_autov2(hashes))


def _with_autov2(hashes: Mapping[str, str]) -> dict[str, str]:
    short = {"autov2": hashes["sha256"][:10]} if "sha256" in hashes else {}
    return {**hashes, **short}
