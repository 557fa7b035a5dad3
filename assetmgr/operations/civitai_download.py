"""Download a file of Civitai into the library: verified, placed by kind, registered, described."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from assetmgr.operations.beside import path_beside, record_beside
from assetmgr.operations.civitai import Reference, base_of, parse_reference
from assetmgr.operations.civitai_document import INFO, licence_words, site_document
from assetmgr.operations.download_run import Watch, error_of, run_downloads, unwatched
from assetmgr.operations.downloads import destination_of, enqueue
from assetmgr.operations.names import safe_name
from assetmgr.operations.placing import Destination
from assetmgr.operations.receiving import Announced, Received, present, receive, with_sha256
from assetmgr.sources import civitai
from assetmgr.sources.bandwidth import Bandwidth
from assetmgr.sources.civitai_records import CivitaiModel, ModelFile, Version
from assetmgr.sources.web import Web
from converters.containers import MODEL_SUFFIXES
from converters.errors import AssetmgrError, BadValue, Cancelled, FileMissing
from converters.progress import SILENT, Progress
from converters.writers.atomic import write_whole
from registry.download_records import Wanted

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


@dataclass(frozen=True, slots=True)
class CivitaiRequest:
    """`file` None means the primary one of the version; `folder` None places it by its kind.

    `layout` is the program whose folders lie in `folder`; `again` fetches what the library has.
    `rate` limits all transfers together, as in `5MB` a second.
    """

    version: str
    file: str | None = None
    folder: Path | None = None
    layout: str | None = None
    again: bool = False
    priority: int = 0
    rate: str | None = None

    def wanted(self, plan: CivitaiDownload) -> Wanted:
        """What was planned for it, as the queue keeps it."""
        return wanted_of(plan, Destination(self.folder, self.layout), again=self.again)


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
    """Fetch a file beside the queue, register it, and keep what the site says of it beside it.

    What the library has is not fetched; bytes that came before an interruption are not fetched
    again. Raises CorruptFile when the bytes are not those announced, WriteProblem, and what
    `plan_civitai_download` raises.
    """
    plan = plan_civitai_download(workspace, version, file, progress)
    with civitai.connect() as web:
        received = bring(
            workspace, wanted_of(plan, Destination(folder)), web, Bandwidth(), progress
        )
    return plan.arrived(received)


def civitai_download(
    workspace: Workspace,
    request: CivitaiRequest,
    progress: Progress = SILENT,
    *,
    watch: Watch = unwatched,
) -> CivitaiDownload:
    """Put a file into the queue and run that to its end.

    A file that fails stays in the queue, as it does when this is interrupted. Raises what it failed
    for, Cancelled, and what `plan_civitai_download` raises.
    """
    plan = queue_civitai_download(workspace, request, progress)
    only, ended = [plan.queued or 0], None
    for ended in run_downloads(workspace, only, rate=request.rate, watch=watch, progress=progress):
        if ended.received is not None:
            return plan.arrived(ended.received)
    raise error_of(ended, plan.label)


def queue_civitai_download(
    workspace: Workspace, request: CivitaiRequest, progress: Progress = SILENT
) -> CivitaiDownload:
    """Put a file into the queue. Raises what `plan_civitai_download` raises."""
    plan = plan_civitai_download(workspace, request.version, request.file, progress)
    (queued,) = enqueue(workspace, [request.wanted(plan)], request.priority)
    return replace(plan, queued=queued.id, state="queued")


def wanted_of(plan: CivitaiDownload, destination: Destination, *, again: bool = False) -> Wanted:
    """A file as the queue keeps it: by its numbers, and what was announced of it."""
    version, file, folder = plan.version, plan.file, destination.folder
    sha256 = file.hashes.get("sha256")
    return Wanted(
        service=SERVICE,
        host=urlsplit(plan.url).netloc,
        subject=json.dumps({"version": version.id, "file": file.id}),
        label=plan.label,
        content=sha256 or plan.url,
        bytes=file.size,
        sha256=sha256,
        folder=None if folder is None else str(folder.absolute()),
        layout=destination.layout,
        again=again,
    )


def bring(
    workspace: Workspace, wanted: Wanted, web: Web, limit: Bandwidth, progress: Progress
) -> Received:
    """Fetch a file of the queue into the library; a row of `download_services`.

    The site is asked again what the version is: what it says goes beside the file.
    """
    told = json.loads(wanted.subject)
    version = civitai.version(web, str(told["version"]), progress, fresh=True)
    plan, model = _planned(workspace, web, version, told["file"]), _model(web, version, progress)
    received = receive(
        workspace,
        _announced(plan, licence_words(model)),
        lambda part, telling: civitai.fetch(web, version.id, plan.file, part, telling, limit),
        destination=destination_of(wanted),
        again=wanted.again,
        progress=progress,
    )
    if received.state != "downloaded":
        return received
    document = site_document(web, version, model)
    return replace(received, asset=_describe(workspace, document, received))


def _model(web: Web, version: Version, progress: Progress) -> CivitaiModel | None:
    """The model of a version; None where the site does not show it, which is no reason to stop."""
    if version.model_id is None:
        return None
    try:
        return civitai.model(web, version.model_id, progress)
    except Cancelled:
        raise
    except AssetmgrError:
        return None


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


def _announced(plan: CivitaiDownload, licence: str | None) -> Announced:
    from registry.records import Source

    version, file = plan.version, plan.file
    sha256 = file.hashes.get("sha256")
    return Announced(
        service="Civitai",
        label=plan.label,
        name=safe_name(file.name),
        family=safe_name(version.model_name or version.id),
        # Announced in kilobytes: where there is a hash, that is the more exact.
        size=file.size if sha256 is None else None,
        sha256=sha256,
        git_sha1=None,
        content=sha256 or plan.url,
        source=Source(SERVICE, version.model_id, version.id, file.name, plan.url, licence),
    )


def _describe(workspace: Workspace, document: bytes, received: Received) -> Asset:
    """Keep the site's answer beside a model, as other programs do, unless one lies there."""
    from registry.places import canonical

    place = canonical(received.path)
    info = path_beside(place, INFO)
    if received.path.suffix.lower() in MODEL_SUFFIXES and not os.path.lexists(info):
        write_whole(info, document)
        record_beside(workspace, received.asset.id, place, info)
    return workspace.library.get(received.asset.id)
