"""Look into a file of a service without downloading it: its header or its pickle, by ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from assetmgr.operations.civitai.plan import plan_civitai_download
from assetmgr.operations.downloads.known import with_sha256
from assetmgr.operations.hub.plan import check_name
from assetmgr.operations.inspect import Inspection, inspect_source
from assetmgr.sources.civitai import remote as civitai_remote
from assetmgr.sources.civitai import site as civitai
from assetmgr.sources.hub import files as huggingface
from assetmgr.sources.remote import RemoteBytes
from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.lineage import Descendant
    from registry.records import Asset


@dataclass(frozen=True, slots=True)
class Peek:
    """What a remote file is, the asset of the library that already is it, and what it cost.

    `where` are the fields of its document that tell where it lies; `made_of_it` are assets that
    were made from these very bytes, by a conversion for example.
    """

    where: Mapping[str, object]
    inspection: Inspection
    known: Asset | None
    made_of_it: tuple[Descendant, ...]
    requests: int
    received: int

    def to_json(self, *, tensors: bool = False) -> dict[str, object]:
        """The document of `inspect`, and where the file is."""
        return {
            **self.inspection.to_json(tensors=tensors),
            **self.where,
            "asset": self.known.id if self.known else None,
            "made_of_it": [asdict(one) for one in self.made_of_it],
            "requests": self.requests,
            "bytes_received": self.received,
        }


def hub_peek(workspace: Workspace, repo: str, name: str, revision: str | None = None) -> Peek:
    """Identify a file of a repository and judge its safety from some hundred kilobytes.

    What is wrong with its content is the inspection's `failure`. Raises BadValue, FileMissing for
    what is not there, NotAvailable for a server that is not reached or gives no ranges.
    """
    check_name(name)
    file = huggingface.describe(repo, name, revision)
    where = {
        "repo": file.repo,
        "revision": file.commit,
        "file": file.name,
        "url": file.url,
        "sha256": file.sha256,
    }
    with huggingface.connect() as web:
        return _peeked(workspace, huggingface.RepositoryBytes(web, file), where, file.sha256)


def civitai_peek(
    workspace: Workspace, version: str, file: str | None = None, progress: Progress = SILENT
) -> Peek:
    """The same of a file of a version: of this name or number, or else its primary one.

    Raises as `hub_peek`.
    """
    plan = plan_civitai_download(workspace, version, file, progress)
    sha256 = plan.file.hashes.get("sha256")
    where = {
        "model": plan.version.model_id,
        "version": plan.version.id,
        "file": plan.file.name,
        "url": plan.url,
        "sha256": sha256,
    }
    with civitai.connect() as web:
        source = civitai_remote.open_remote(web, plan.version.id, plan.file, progress)
        return _peeked(workspace, source, where, sha256)


def _peeked(
    workspace: Workspace, source: RemoteBytes, where: Mapping[str, object], sha256: str | None
) -> Peek:
    inspection = inspect_source(source)
    known = with_sha256(workspace, sha256)
    made = () if sha256 is None else workspace.library.made_of(sha256)
    return Peek(where, inspection, known, made, source.cost.requests, source.cost.received)
