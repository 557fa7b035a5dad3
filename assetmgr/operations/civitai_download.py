"""Download a file of Civitai into the library: verified, placed by kind, registered, described."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.civitai import Reference, base_of, parse_reference
from assetmgr.operations.names import safe_name
from assetmgr.operations.receiving import (
    Announced,
    HashedOnTheWay,
    present,
    receive,
    with_sha256,
)
from assetmgr.sources import civitai
from assetmgr.sources.civitai_records import ModelFile, Version
from assetmgr.sources.web import Web
from converters.containers import MODEL_SUFFIXES
from converters.errors import BadValue, FileMissing
from converters.progress import SILENT, Progress
from converters.writers.atomic import write_whole

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset

_INFO = ".civitai.info"
"""The file beside a model in which Civitai Helper and others keep the site's answer."""


@dataclass(frozen=True, slots=True)
class CivitaiDownload:
    """A file of a version and, where it is known, the asset that it is and where that lies.

    `state` is `downloaded`, `already`, or None for what is only planned.
    """

    version: Version
    file: ModelFile
    url: str
    asset: Asset | None
    path: Path | None
    state: str | None

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
            "state": self.state,
        }


def plan_civitai_download(
    workspace: Workspace, version: str, file: str | None = None, progress: Progress = SILENT
) -> CivitaiDownload:
    """What would be downloaded: the file of this name or number, or else the primary one.

    Raises BadValue for what names no version, FileMissing, NotAvailable.
    """
    number = _number(parse_reference(version), version)
    with civitai.connect() as web:
        return _planned(workspace, web, civitai.version(web, number, progress, fresh=True), file)


def run_civitai_download(
    workspace: Workspace,
    version: str,
    file: str | None = None,
    folder: Path | None = None,
    progress: Progress = SILENT,
) -> CivitaiDownload:
    """Fetch a file, verify and register it, and keep what the site says of it beside it.

    What the library has is not fetched; bytes that came before an interruption are not fetched
    again. Raises CorruptFile when the bytes are not those announced, WriteProblem, and what
    `plan_civitai_download` raises.
    """
    number = _number(parse_reference(version), version)
    with civitai.connect() as web:
        found = civitai.version(web, number, progress, fresh=True)
        plan = _planned(workspace, web, found, file)

        def fetch(part: Path, progress: Progress) -> HashedOnTheWay:
            arrived = civitai.fetch(web, found.id, plan.file, part, progress)
            return HashedOnTheWay(arrived.hashes, arrived.header_bytes)

        received = receive(
            workspace,
            _announced(plan),
            fetch,
            known=plan.asset,
            folder=folder,
            progress=progress,
        )
        asset = received.asset
        if received.state == "downloaded":
            asset = _describe(workspace, web, found, asset, received.path)
    return CivitaiDownload(found, plan.file, plan.url, asset, received.path, received.state)


def _number(reference: Reference, text: str) -> str:
    """The version that is meant; a bare number is one."""
    number = reference.version or reference.number
    if number is None:
        hint = f"`assetmgr civitai info {reference.model}` lists them, such as @128713"
        raise BadValue("names a model, not a version of one", path=text, hint=hint)
    return number


def _planned(
    workspace: Workspace, web: Web, version: Version, wanted: str | None
) -> CivitaiDownload:
    file = _chosen(version, wanted)
    known = with_sha256(workspace, file.hashes.get("sha256"))
    place = None if known is None else present(known)
    state = None if known is None else "already"
    url = civitai.address(web, version.id, file.id)
    return CivitaiDownload(version, file, url, known, place, state)


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


def _announced(plan: CivitaiDownload) -> Announced:
    from registry.records import Source

    version, file = plan.version, plan.file
    sha256 = file.hashes.get("sha256")
    return Announced(
        service="Civitai",
        label=f"{version.label}: {file.name}",
        name=safe_name(file.name),
        family=safe_name(version.model_name or version.id),
        # Announced in kilobytes: where there is a hash, that is the more exact.
        size=file.size if sha256 is None else None,
        sha256=sha256,
        git_sha1=None,
        content=sha256 or plan.url,
        source=Source("civitai", version.model_id, version.id, file.name, plan.url),
    )


def _describe(workspace: Workspace, web: Web, version: Version, asset: Asset, model: Path) -> Asset:
    """Keep the site's answer beside a model, as other programs do, unless one lies there."""
    from registry.places import canonical
    from registry.sidecar_rows import Found, Key, Stamp
    from registry.sidecars import beside, read_sidecar

    place = Path(canonical(model)).with_suffix(_INFO)
    if model.suffix.lower() not in MODEL_SUFFIXES or os.path.lexists(place):
        return asset
    text = json.dumps(version.document, ensure_ascii=False, indent=2)
    if web.token is not None:  # the answer does not hold it; should it ever, it stays out of files
        text = text.replace(web.token, "…")
    write_whole(place, text.encode("utf-8", "replace"))
    status = place.stat()
    for row, name in beside(model.name, frozenset({place.name})):
        key = Key(asset.id, str(place.with_name(name)))
        stamp = Stamp(status.st_size, status.st_mtime_ns)
        workspace.library.record_sidecars([Found(key, stamp, read_sidecar(row, key.path))])
    return workspace.library.get(asset.id)
