"""What a download from Civitai would bring: a file of a version, and whether it is here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.civitai.find import Reference, base_of, parse_reference
from assetmgr.operations.downloads.known import present, with_sha256
from assetmgr.operations.downloads.registering import Received
from assetmgr.sources.civitai import site as civitai
from assetmgr.sources.civitai.records import ModelFile, Version
from assetmgr.sources.web import Web
from converters.errors import BadValue, FileMissing
from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset

SERVICE = "civitai"


@dataclass(frozen=True, slots=True)
class CivitaiDownload:
    """A file of a version and, where it is known, the asset that it is and where that lies.

    `state` is `downloaded`, `already`, `queued`, or None for what is only planned; `queued` its
    number in the queue.
    """

    version: Version
    file: ModelFile
    url: str
    asset: Asset | None
    path: Path | None
    state: str | None
    queued: int | None = None

    @property
    def label(self) -> str:
        """What errors call it."""
        return f"{self.version.label}: {self.file.name}"

    @property
    def licence(self) -> str | None:
        """What the author allows, once that was asked for."""
        sources = self.asset.sources if self.asset else ()
        ours = (each for each in sources if each.source == SERVICE)
        return next((each.licence for each in ours if each.revision == self.version.id), None)

    def arrived(self, received: Received) -> CivitaiDownload:
        """What is in the library now."""
        return replace(self, asset=received.asset, path=received.path, state=received.state)

    def to_json(self) -> dict[str, object]:
        """The document of the contract."""
        asset = self.asset
        return {
            "model": self.version.model_id,
            "version": self.version.id,
            "file": self.file.name,
            "url": self.url,
            "bytes": self.file.size,
            "sha256": self.file.hashes.get("sha256"),
            "base": base_of(self.version),
            "trained_words": list(self.version.trained_words),
            "path": None if self.path is None else str(self.path),
            "asset": asset.id if asset else None,
            "kind": asset.kind if asset else None,
            "safety": asset.safety.verdict.value if asset else None,
            "licence": self.licence,
            "download": self.queued,
            "state": self.state,
        }


def plan_civitai_download(
    workspace: Workspace, version: str, file: str | None = None, progress: Progress = SILENT
) -> CivitaiDownload:
    """What would be downloaded, and the asset of the library that already is it.

    Raises what `find_civitai_download` raises.
    """
    found = find_civitai_download(version, file, progress)
    known = with_sha256(workspace, found.file.hashes.get("sha256"))
    if known is None:
        return found
    return replace(found, asset=known, path=present(known), state="already")


def find_civitai_download(
    version: str, file: str | None = None, progress: Progress = SILENT
) -> CivitaiDownload:
    """What the site has: the file of this name or number, or else the primary one.

    Raises BadValue for what names no version, FileMissing, NotAvailable.
    """
    reference = parse_reference(version)
    number = _number(reference, version)
    with civitai.connect() as web:
        try:
            found = civitai.version(web, number, progress, fresh=True)
        except FileMissing as error:
            if reference.number is None:
                raise
            hint = f"of a model, `assetmgr civitai info {number}` lists the versions"
            raise FileMissing(error.cause, path=error.path, hint=hint) from None
        return file_of(web, found, file)


def file_of(web: Web, version: Version, wanted: str | None) -> CivitaiDownload:
    """The file of this name or number, or else the primary one. Raises FileMissing, BadValue."""
    file = _chosen(version, wanted)
    url = civitai.address(web, version.id, file.id)
    return CivitaiDownload(version, file, url, asset=None, path=None, state=None)


def _number(reference: Reference, text: str) -> str:
    """The version that is meant; a bare number is one."""
    number = reference.version or reference.number
    if number is None:
        hint = f"`assetmgr civitai info {reference.model}` lists them, such as @128713"
        raise BadValue("names a model, not a version of one", path=text, hint=hint)
    return number


def _chosen(version: Version, wanted: str | None) -> ModelFile:
    if not version.files:
        raise FileMissing("this version has no files", path=version.label)
    if wanted is None:
        primary = (file for file in version.files if file.primary)
        return next(primary, version.files[0])
    found = [file for file in version.files if wanted in {file.name, file.id}]
    if not found:
        names = ", ".join(file.name for file in version.files)
        raise FileMissing(f"has no file {wanted}", path=version.label, hint=f"it has {names}")
    if len(found) > 1:
        numbers = ", ".join(file.id or "?" for file in found)
        hint = f"use one of the numbers {numbers}"
        raise BadValue(f"has several files {wanted}", path=version.label, hint=hint)
    return found[0]
