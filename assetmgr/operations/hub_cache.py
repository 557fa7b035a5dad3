"""Download into the cache that huggingface_hub shares with diffusers and others, and register."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.failures import Failure
from assetmgr.operations.hub_plan import Download, Downloaded, DownloadRequest, plan_download
from assetmgr.operations.hub_receive import announced
from assetmgr.operations.receiving import Received, already_there
from assetmgr.sources import hub_cache
from converters.errors import AssetmgrError, Cancelled, CorruptFile, TargetExists
from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace


def cache_downloads(
    workspace: Workspace, request: DownloadRequest, progress: Progress = SILENT
) -> Iterator[Downloaded | Failure]:
    """Put the whole request into the cache; a file that fails does not stop the others.

    Files stay where they are in the cache and are registered there, each after its hash was
    compared. Raises Cancelled, and what `plan_download` raises.
    """
    for found in plan_download(workspace, request, progress):
        if isinstance(found, Failure):
            yield found
            continue
        try:
            received = _cached(workspace, found, progress)
        except Cancelled:
            raise
        except AssetmgrError as error:
            yield Failure.of(error, found.file.label)
            continue
        yield Downloaded(found.file, received.path, received.asset, received.state, found.licence)


def _cached(workspace: Workspace, found: Download, progress: Progress) -> Received:
    """What lies there damaged is fetched once more."""
    was_there = hub_cache.is_in_cache(found.file)
    for again in (False, True):
        path = hub_cache.fetch_to_cache(found.file, progress, again=again)
        try:
            received = _registered(workspace, found, path, progress)
            return received if was_there and not again else replace(received, state="downloaded")
        except TargetExists:
            continue
    cause = "the downloaded bytes are not those the Hub announced"
    raise CorruptFile(cause, path=found.file.label, hint=f"they lie in {hub_cache.cache_folder()}")


def _registered(workspace: Workspace, found: Download, path: Path, progress: Progress) -> Received:
    return already_there(workspace, announced(found.file, found.licence), path, progress)
