"""Look into a file on the Hub without downloading it: its header or its pickle, by ranges."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from assetmgr.operations.hub import check_name, known_asset
from assetmgr.operations.inspect import Inspection, inspect_source
from assetmgr.sources import huggingface
from assetmgr.sources.huggingface import RemoteFile

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.lineage import Descendant
    from registry.records import Asset


@dataclass(frozen=True, slots=True)
class Peek:
    """What a remote file is, the asset of the library that already is it, and what it cost.

    `made_of_it` are assets that were made from these very bytes, by a conversion for example.
    """

    file: RemoteFile
    inspection: Inspection
    known: Asset | None
    made_of_it: tuple[Descendant, ...]
    requests: int
    received: int

    def to_json(self, *, tensors: bool = False) -> dict[str, object]:
        """The document of `inspect`, and where the file is."""
        return {
            **self.inspection.to_json(tensors=tensors),
            "repo": self.file.repo,
            "revision": self.file.commit,
            "file": self.file.name,
            "url": self.file.url,
            "sha256": self.file.sha256,
            "asset": self.known.id if self.known else None,
            "made_of_it": [asdict(one) for one in self.made_of_it],
            "requests": self.requests,
            "bytes_received": self.received,
        }


def peek(workspace: Workspace, repo: str, name: str, revision: str | None = None) -> Peek:
    """Identify a file of a repository and judge its safety from some hundred kilobytes.

    What is wrong with its content is the inspection's `failure`. Raises BadValue, FileMissing for
    what is not there, NotAvailable for a server that is not reached or gives no ranges.
    """
    check_name(name)
    file = huggingface.describe(repo, name, revision)
    source = huggingface.open_remote(file)
    inspection = inspect_source(source)
    known = known_asset(workspace, file)
    made = () if file.sha256 is None else workspace.library.made_of(file.sha256)
    return Peek(file, inspection, known, made, source.requests, source.received)
