"""Whose file is this? Looking assets up on Civitai by their hashes and those of their ancestors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.civitai import base_of
from assetmgr.operations.failures import Failure
from assetmgr.operations.hashing import Hashes, hash_paths, hashes_json
from assetmgr.sources import civitai
from assetmgr.sources.civitai_records import Version
from assetmgr.sources.web import Web
from converters.containers import open_model
from converters.errors import AssetmgrError, AssetNotFound, FileProblem
from converters.progress import SILENT, Progress
from converters.transform.metadata import DERIVATION_KEY
from registry.sidecars.document import BadSidecar, Fields

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset

_ONE_BY_ONE = ("blake3", "autov3", "autov2")
"""Besides SHA-256, which is asked for in batches. AutoV1 and CRC32 name nothing for certain."""

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
    """Look assets and files up; those that are unknown there by their nearest known ancestors.

    Files that the library does not know are hashed. Raises NotAvailable.
    """
    subjects = [_subject(workspace, reference, progress) for reference in references]
    with civitai.connect() as web:
        asker = _Asker(web, progress)
        asker.ask_together([one for one in subjects if isinstance(one, Subject)])
        for subject in subjects:
            if isinstance(subject, Failure):
                yield subject
                continue
            own = asker.ask(subject)
            found = (own,) if own else tuple(_through_ancestors(workspace, asker, subject))
            yield Lookup(subject, found)


def _subject(workspace: Workspace, reference: str, progress: Progress) -> Subject | Failure:
    try:
        return _of_asset(workspace.library.find(reference))
    except AssetNotFound as error:
        if not os.path.isfile(reference):  # noqa: PTH113  # never raises
            return Failure.of(error, reference)
    except AssetmgrError as error:
        return Failure.of(error, reference)
    (result,) = hash_paths([reference], progress)
    return result if isinstance(result, Failure) else _of_file(result)


def _of_asset(asset: Asset) -> Subject:
    hashes = {name: digest for name, digest in asset.hashes.items() if digest is not None}
    hashes["autov2"] = hashes["sha256"][:10]
    return Subject(asset.name, hashes, asset.id, asset.path)


def _of_file(hashed: Hashes) -> Subject:
    found = hashes_json(hashed.hashed)
    hashes = {
        name: digest
        for name, digest in found.items()
        if digest is not None and not digest.startswith(_SHA256_OF_NOTHING)
    }
    return Subject(Path(hashed.path).stem, hashes, None, str(hashed.path))


class _Asker:
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
        for name in ("sha256", *_ONE_BY_ONE):
            digest = subject.hashes.get(name)
            version = None if digest is None else self._version(name, digest)
            if version is not None:
                return Match(version, name, None)
        return None

    def _version(self, name: str, digest: str) -> Version | None:
        asked = digest[:_SHOWN_OF_AUTOV3] if name == "autov3" else digest
        if asked not in self._versions:
            self._versions[asked] = civitai.by_hash(self._web, asked, self._progress)
        return self._versions[asked]


def _through_ancestors(workspace: Workspace, asker: _Asker, subject: Subject) -> Iterator[Match]:
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
            yield _of_asset(workspace.library.get(derived.asset))
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
    except BadSidecar:
        return
    for parent in fields.objects("parents"):
        hashes = parent.hashes()
        if hashes:
            yield _of_hashes(parent.text("name") or "?", hashes)


def _of_hashes(name: str, hashes: Mapping[str, str]) -> Subject:
    short = {"autov2": hashes["sha256"][:10]} if "sha256" in hashes else {}
    return Subject(name, {**hashes, **short})
