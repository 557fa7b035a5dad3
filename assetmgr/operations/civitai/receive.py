"""Bring one file of Civitai into the library: verified, placed by kind, registered, described."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from assetmgr.operations.beside import path_beside, record_beside
from assetmgr.operations.civitai.document import INFO, licence_words, site_document
from assetmgr.operations.civitai.plan import SERVICE, CivitaiDownload, file_of
from assetmgr.operations.downloads.announced import Announced
from assetmgr.operations.downloads.placing import Destination
from assetmgr.operations.downloads.queue import destination_of
from assetmgr.operations.downloads.receiving import receive
from assetmgr.operations.downloads.registering import Received
from assetmgr.operations.names import safe_name, visible_name
from assetmgr.sources.civitai import site as civitai
from assetmgr.sources.civitai.records import CivitaiModel, Version
from assetmgr.sources.transfers.bandwidth import Bandwidth
from assetmgr.sources.web import Web
from converters.errors import AssetmgrError, Cancelled
from converters.progress import Progress
from converters.suffixes import MODEL_SUFFIXES
from converters.writers.atomic import write_whole
from registry.downloads.records import Wanted

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset


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
    """Fetch a file of the queue into the library; a row of `downloads.services`.

    The site is asked again what the version is: what it says goes beside the file.
    """
    told = json.loads(wanted.subject)
    version = civitai.version(web, str(told["version"]), progress, fresh=True)
    plan, model = file_of(web, version, told["file"]), _model(web, version, progress)
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


def _announced(plan: CivitaiDownload, licence: str | None) -> Announced:
    from registry.records import Source

    version, file = plan.version, plan.file
    sha256 = file.hashes.get("sha256")
    return Announced(
        service="Civitai",
        label=plan.label,
        name=visible_name(file.name),
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
    from registry.scanning.places import canonical

    place = canonical(received.path)
    info = path_beside(place, INFO)
    if received.path.suffix.lower() in MODEL_SUFFIXES and not os.path.lexists(info):
        write_whole(info, document)
        record_beside(workspace, received.asset.id, place, info)
    return workspace.library.get(received.asset.id)
