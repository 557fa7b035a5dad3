"""Files of a repository as cards: what is told before they are fetched, and what is queued."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from helpers.hub_server import HubServer
from helpers.pickles import call_name, pickled, text

from assetmgr.operations.downloads.queue import list_downloads
from assetmgr.workspace import Workspace
from converters.progress import SILENT
from tui.cards import Ask, Card
from tui.downloads import Downloads
from tui.remote_hub import OnHub

SHARDS = [f"te/model-0000{number}-of-00002.safetensors" for number in (1, 2)]
INDEX = "te/model.safetensors.index.json"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    files = {name: bytes(100) for name in (*SHARDS, "vae/model.safetensors")}
    files |= {INDEX: json.dumps({"weight_map": {}}).encode(), "te/config.json": b"{}"}
    with HubServer("org/gems", files) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def cards(workspace: Workspace) -> dict[str, Card]:
    asked = Ask("huggingface", "org/gems")
    return {card.name: card for card in OnHub(workspace).search(asked, SILENT)}


def test_a_part_of_a_model_is_queued_with_all_others_and_says_how_large_they_are(
    hub: HubServer, workspace: Workspace
) -> None:
    found = cards(workspace)
    shard, alone = found[SHARDS[0]], found["vae/model.safetensors"]
    assert (shard.beside, alone.beside) == (3, 0)
    told = dict(shard.sections[0].rows)
    assert str(told["of"]) == "4 files, 220 B"
    assert shard.download is not None
    assert shard.download(SILENT) == "downloads 1 to 4 are queued"
    queued = {each.wanted.label.removeprefix("org/gems/") for each in list_downloads(workspace)}
    assert queued == {*SHARDS, INDEX, "te/config.json"}
    assert alone.download is not None
    assert alone.download(SILENT) == "download 5 is queued"


def test_a_peek_at_what_would_do_harm_says_so(hub: HubServer, workspace: Workspace) -> None:
    hub.files = {"evil.ckpt": pickled(call_name("posix.system", text("echo pwned")))}
    peek = cards(workspace)["evil.ckpt"].peek
    assert peek is not None
    assert peek(SILENT).startswith("dangerous: is a bare Python pickle")


def test_a_download_that_is_refused_says_why_at_the_end(
    hub: HubServer, workspace: Workspace
) -> None:
    hub.refusal = (403, "GatedRepo")
    name = "vae/model.safetensors"
    download = cards(workspace)[name].download
    assert download is not None
    download(SILENT)
    told = Downloads(workspace).run(SILENT)
    assert (
        told == f"0 downloaded, 1 failed (org/gems/{name}: access to this repository is restricted)"
    )
