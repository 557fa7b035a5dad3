"""Is there something newer? What came from the Hub, beside what its repositories have now."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from assetmgr.operations.failures import Failure
from assetmgr.operations.hub.find import SERVICE
from assetmgr.sources.hub import models as hub_models
from assetmgr.sources.hub.models import HubFile, HubModel
from assetmgr.sources.hub.web import connect
from assetmgr.sources.patience import Unreachable
from converters.errors import AssetmgrError, BadValue
from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset, Source

CURRENT, NEWER, GONE, UNTOLD = "current", "newer", "gone", "unknown"

_SNAPSHOT = re.compile(r"/models--([^/]+)/snapshots/([0-9a-f]{40})/(.+)")


@dataclass(frozen=True, slots=True)
class HubUpdate:
    """An asset from the Hub and the file of its name in its repository's newest state.

    `state` is `current` for the same bytes, `newer` for others, `gone` for a file that is not there
    any more, `unknown` where the Hub tells no SHA-256. `replacement` is the asset that already has
    the newer bytes.
    """

    asset: Asset
    source: Source
    model: HubModel
    file: HubFile | None
    state: str
    replacement: int | None

    def to_json(self) -> dict[str, object]:
        """The entry of the document."""
        return {
            "asset": self.asset.id,
            "name": self.asset.name,
            "repo": self.source.repo,
            "file": self.source.file,
            "revision": self.source.revision,
            "state": self.state,
            "newest_revision": self.model.commit,
            "modified": self.model.modified,
            "bytes": self.file.size if self.file else None,
            "sha256": self.file.sha256 if self.file else None,
            "replacement": self.replacement,
        }


def updates(
    workspace: Workspace, references: Sequence[str] = (), progress: Progress = SILENT
) -> Iterator[HubUpdate | Failure]:
    """Ask for each repository once; without references for all that the library has of the Hub.

    What is in a cache of huggingface_hub counts as well. A repository that cannot be asked is one
    Failure. Raises NotAvailable when the Hub cannot be reached at all.
    """
    wanted: defaultdict[str, list[_Origin]] = defaultdict(list)
    for item in _wanted(workspace, references):
        if isinstance(item, Failure):
            yield item
        else:
            wanted[item.source.repo or ""].append(item)
    progress.stage("asking the Hub", len(wanted), "repositories")
    if not wanted:
        return
    with connect() as web:
        for repo, items in sorted(wanted.items()):
            try:
                model = hub_models.repository(web, repo, None, progress)
            except Unreachable:
                raise
            except AssetmgrError as error:
                yield Failure.of(error, repo)
                continue
            for origin in items:
                yield _compared(workspace, origin, model)
            progress.advance()


class _Origin(NamedTuple):
    """Where an asset is from."""

    asset: int
    source: Source

    @property
    def place(self) -> tuple[object, ...]:
        """The same for what both the library and a cache say of a file."""
        source = self.source
        return self.asset, source.repo, source.revision, source.file


def _wanted(workspace: Workspace, references: Sequence[str]) -> Iterator[_Origin | Failure]:
    known = [_Origin(*row) for row in workspace.library.sources(SERVICE) if row[1].repo]
    cached = _in_caches(workspace.library.file_assets())
    everything = list({origin.place: origin for origin in [*cached, *known]}.values())
    if not references:
        yield from everything
        return
    for reference in references:
        try:
            asset = workspace.library.find(reference)
        except AssetmgrError as error:
            yield Failure.of(error, reference)
            continue
        own = [origin for origin in everything if origin.asset == asset.id]
        if not own:
            yield Failure.of(BadValue("is not known to come from the Hub", path=reference))
        yield from own


def _in_caches(places: Mapping[str, int]) -> Iterator[_Origin]:
    """Files in the snapshots of huggingface_hub's cache, whose paths name repository and commit."""
    from registry.records import Source

    for path, asset in places.items():
        found = _SNAPSHOT.search(path.replace(os.sep, "/"))
        if found is not None:
            yield _Origin(asset, Source(SERVICE, found[1].replace("--", "/"), *found.groups()[1:]))


def _compared(workspace: Workspace, origin: _Origin, model: HubModel) -> HubUpdate:
    asset, source = workspace.library.get(origin.asset), origin.source
    file = next((one for one in model.files or () if one.name == source.file), None)
    newer = file.sha256 if file else None
    state = _state(asset.hashes["sha256"], source, model, file)
    replacement = workspace.library.find_hash(newer) if newer and state == NEWER else None
    return HubUpdate(asset, source, model, file, state, replacement)


def _state(sha256: str | None, source: Source, model: HubModel, file: HubFile | None) -> str:
    if file is None:
        return GONE
    if source.revision == model.commit or (sha256 is not None and sha256 == file.sha256):
        return CURRENT
    return UNTOLD if file.sha256 is None or sha256 is None else NEWER
