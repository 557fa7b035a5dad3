"""What is newer on a service, as cards: they know what they will be, so that its coming is seen."""

from __future__ import annotations

import pytest

import assetmgr.operations.civitai.updates
import assetmgr.operations.hub.updates
from assetmgr.operations.civitai.updates import CivitaiUpdate, NewerVersion
from assetmgr.operations.hub.updates import HubUpdate
from assetmgr.sources.civitai.records import ModelFile, Version
from assetmgr.sources.hub.models import HubFile, HubModel
from assetmgr.workspace import Workspace
from converters.progress import SILENT
from registry.document import Fields
from registry.records import Asset, Source
from tui.remote import Remote

HERE = 4


@pytest.mark.parametrize("service", ["civitai", "huggingface"])
def test_an_update_that_came_meanwhile_is_marked_as_here(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    old, new = workspace.library.get(3), workspace.library.get(HERE)
    digest = str(new.hashes["sha256"])
    found = _on_civitai(old, digest) if service == "civitai" else _on_hub(old, digest)
    for module in (assetmgr.operations.civitai.updates, assetmgr.operations.hub.updates):
        monkeypatch.setattr(module, "updates", lambda *_: [found])
    remote = Remote(workspace)
    (card,) = remote.updates(service, SILENT)
    assert card.asset is None
    assert card.download is not None
    (again,) = remote.look_again([card])
    assert again.asset == HERE


def _on_civitai(old: Asset, digest: str) -> CivitaiUpdate:
    file = ModelFile("1", "b", "Model", 9, None, None, None, True, {"sha256": digest}, {})
    told = (None,) * 5
    version = Version("8", "70", "v8", "SD 1.5", None, (), *told[:3], (file,), None, None, {})
    return CivitaiUpdate(old, "70", "7", None, "newer", (NewerVersion(version, True, None),))


def _on_hub(old: Asset, digest: str) -> HubUpdate:
    told = dict.fromkeys(HubModel.__dataclass_fields__)
    model = HubModel(**{**told, "repo": "org/x", "commit": "f" * 40, "card": Fields("", {}, [])})  # type: ignore[arg-type]
    source = Source("huggingface", "org/x", "a" * 40, "b.safetensors")
    file = HubFile("b.safetensors", 9, digest, None)
    return HubUpdate(old, source, model, file, "newer", None)
