"""`hub download` through the real client, against a server on loopback."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.hub_server import COMMIT, HubServer

from assetmgr.cli.main import run
from assetmgr.workspace import Workspace
from converters.bytesource import MemoryBytes
from converters.dtypes import DType
from converters.statedict import Extent, LazyTensor, StateDict
from converters.writers.safetensors import write_safetensors

REPO = "org/gems"


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An SD1 embedding of two vectors."""
    data = os.urandom(2 * 768 * 2)
    tensor = LazyTensor(DType.F16, (2, 768), (Extent(MemoryBytes(data), 0, len(data)),), "made")
    target = tmp_path_factory.mktemp("hub") / "gem.safetensors"
    write_safetensors(StateDict({"emb_params": tensor}), target)
    return target.read_bytes()


@pytest.fixture
def hub(embedding: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    files = {"gem.safetensors": embedding, "README.md": b"# Gems"}
    with HubServer(REPO, files) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        yield server


def download(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, object, str]:
    status = run(["hub", "download", *arguments, "--json"])
    out, err = capfd.readouterr()
    return status, json.loads(out), err


def test_a_file_is_verified_placed_by_its_kind_and_registered_with_its_source(
    hub: HubServer, capfd: pytest.CaptureFixture[str]
) -> None:
    status, document, _ = download(capfd, REPO, "gem.safetensors")
    assert status == 0
    assert isinstance(document, list)
    (item,) = document
    assert item["state"] == "downloaded"
    assert item["sha256"] == hub.sha256("gem.safetensors")
    path = Path(item["path"])
    assert path.read_bytes() == hub.files["gem.safetensors"]
    with Workspace.open() as workspace:
        assert path == workspace.paths.models / "embeddings" / "gem.safetensors"
        asset = workspace.library.find(hub.sha256("gem.safetensors"))
        (source,) = asset.sources
    assert asset.kind == "embedding"
    assert (source.source, source.repo, source.revision) == ("huggingface", REPO, COMMIT)
    assert source.file == "gem.safetensors"
    assert source.url is not None
    assert source.url.startswith(hub.url)
    assert [found.name for found in path.parents[1].iterdir() if found.name.startswith(".")] in (
        [],
        [".downloads"],
    )


def test_without_a_file_all_model_files_are_downloaded(
    hub: HubServer, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, document, _ = download(capfd, REPO, "--to", str(tmp_path / "mine"))
    assert status == 0
    assert isinstance(document, list)
    assert [item["file"] for item in document] == ["gem.safetensors"]
    assert (tmp_path / "mine" / "gem.safetensors").is_file()


def test_what_the_library_has_is_not_downloaded_again(
    hub: HubServer, capfd: pytest.CaptureFixture[str]
) -> None:
    download(capfd, REPO, "gem.safetensors")
    hub.requests.clear()
    status, document, _ = download(capfd, REPO, "gem.safetensors")
    assert status == 0
    assert isinstance(document, list)
    assert document[0]["state"] == "already"
    assert not [request for request in hub.requests if request.startswith("GET")]


def test_a_dry_run_fetches_nothing(hub: HubServer, capfd: pytest.CaptureFixture[str]) -> None:
    status, document, _ = download(capfd, REPO, "gem.safetensors", "--dry-run")
    assert status == 0
    assert isinstance(document, list)
    assert (document[0]["path"], document[0]["state"]) == (None, None)
    assert document[0]["bytes"] == len(hub.files["gem.safetensors"])
    assert not [request for request in hub.requests if request.startswith("GET")]


def test_bytes_that_are_not_the_announced_ones_are_refused_and_removed(
    hub: HubServer, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    hub.announced["gem.safetensors"] = "ab" * 32
    status, _, err = download(capfd, REPO, "gem.safetensors", "--to", str(tmp_path / "mine"))
    assert status == 1
    assert "not those the Hub announced" in err
    assert not [path for path in (tmp_path / "mine").rglob("*.safetensors") if path.is_file()]


def test_a_file_with_other_content_is_never_replaced(
    hub: HubServer, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "gem.safetensors").write_bytes(b"precious")
    status, _, err = download(capfd, REPO, "gem.safetensors", "--to", str(tmp_path))
    assert status == 1
    assert "already exists" in err
    assert (tmp_path / "gem.safetensors").read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["absent.safetensors", "../../evil.safetensors", "/etc/passwd"])
def test_a_file_the_repository_cannot_have_is_one_error_and_the_others_go_on(
    hub: HubServer, capfd: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    arguments = (REPO, name, "gem.safetensors", "--to", str(tmp_path / "mine"))
    status, document, err = download(capfd, *arguments)
    assert status in (1, 2)
    assert isinstance(document, list)
    assert document[0]["error"]
    assert document[1]["state"] == "downloaded"
    assert err.count("error:") == 1


def test_a_repository_that_is_not_there_is_named(
    hub: HubServer, capfd: pytest.CaptureFixture[str]
) -> None:
    status, document, err = download(capfd, "org/absent")
    assert status == 1
    assert isinstance(document, dict)
    assert document["errors"][0]["code"] == "asset_not_found"
    assert "org/absent" in err


def test_restricted_access_and_no_connection_are_not_available(
    hub: HubServer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.gated = True
    status, document, err = download(capfd, REPO, "gem.safetensors")
    assert status == 3
    assert "restricted" in err
    assert "hf_secret" not in err + json.dumps(document)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    status, _, err = download(capfd, REPO, "gem.safetensors")
    assert status == 3
    assert "cannot be reached" in err
