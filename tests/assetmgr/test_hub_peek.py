"""`hub peek`: what a remote file is, from a few hundred kilobytes of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cli_models
import pytest
from helpers.hub_server import COMMIT, HubServer

from assetmgr.sources.remote import BLOCK_BYTES
from converters.bytesource import MemoryBytes
from converters.containers import open_model

if TYPE_CHECKING:
    from conftest import Done, Models

    Program = Callable[..., Done]

REPO = "org/gems"


@pytest.fixture
def hub(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A checkpoint, a hostile pickle and a text, behind the Hub's two hosts."""
    hostile = cli_models.hostile(tmp_path / "bad.ckpt", tmp_path / "it-was-run")
    files = {
        "model.safetensors": models.checkpoint.read_bytes(),
        "bad.ckpt": hostile.read_bytes(),
        "page.bin": b"<html>" + b" " * 200_000,
    }
    with HubServer(REPO, files) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        yield server


def test_a_remote_checkpoint_is_identified_from_its_header_alone(
    hub: HubServer, program: Program, models: Models
) -> None:
    document = program("hub", "peek", REPO, "model.safetensors", "--json").json
    (local,) = program("inspect", models.checkpoint, "--json").json
    same = ("kind", "base", "layout", "tensors", "parameters", "dtypes", "evidence", "safety")
    assert {key: document[key] for key in same} == {key: local[key] for key in same}
    assert (document["repo"], document["file"]) == (REPO, "model.safetensors")
    assert (document["revision"], document["bytes"]) == (COMMIT, local["bytes"])
    assert document["sha256"] == hub.sha256("model.safetensors")
    header = int.from_bytes(models.checkpoint.read_bytes()[:8], "little")
    assert document["bytes_received"] <= header + 2 * BLOCK_BYTES < document["bytes"]
    assert document["requests"] <= 2
    assert document["asset"] is None


def test_what_the_library_has_already_is_said(
    hub: HubServer, program: Program, models: Models, tmp_path: Path
) -> None:
    program("scan", cli_models.alone(models.checkpoint, tmp_path).parent)
    assert program("hub", "peek", REPO, "model.safetensors", "--json").json["asset"] is not None
    assert "have it: #" in program("hub", "peek", REPO, "model.safetensors").out


def test_a_model_in_several_files_is_identified_through_its_index(
    hub: HubServer, program: Program, models: Models
) -> None:
    """Two shards below the index's folder; one that is not there is named."""
    shards = {"a": models.lora.read_bytes(), "b": models.unet_lora.read_bytes()}
    names = {name: [*open_model(MemoryBytes(data)).state_dict] for name, data in shards.items()}
    places = {tensor: f"{name}.safetensors" for name, all_ in names.items() for tensor in all_}
    hub.files |= {f"unet/{name}.safetensors": data for name, data in shards.items()}
    index = json.dumps({"weight_map": places}).encode()
    hub.files["unet/model.safetensors.index.json"] = index
    call = ("hub", "peek", REPO, "unet/model.safetensors.index.json", "--json")
    found = program(*call).json
    assert (found["container"], found["kind"]) == ("sharded-safetensors", "lora")
    assert found["tensors"] == len(places)
    assert found["bytes"] == len(index) + sum(map(len, shards.values()))
    assert found["requests"] == 3
    del hub.files["unet/b.safetensors"]
    done = program(*call)
    assert (done.code, done.json["path"]) == (1, "org/gems/unet/b.safetensors")
    assert "names it as a part of the model" in done.err


def test_a_remote_pickle_is_judged_and_not_run(
    hub: HubServer, program: Program, tmp_path: Path
) -> None:
    done = program("hub", "peek", REPO, "bad.ckpt", "--json")
    assert done.code == 1
    assert done.json["safety"]["verdict"] == "dangerous"
    assert done.json["code"] == "dangerous"
    assert not (tmp_path / "it-was-run").exists()


def test_the_token_stays_with_its_host(
    hub: HubServer, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert program("hub", "peek", REPO, "model.safetensors", "--json").code == 0
    assert "Bearer hf_secret" in hub.tokens["service"]
    assert hub.tokens["cdn"] == {None}


def test_of_a_server_without_ranges_only_the_beginning_is_read(
    hub: HubServer, program: Program, models: Models
) -> None:
    hub.ranges = False
    header = int.from_bytes(models.checkpoint.read_bytes()[:8], "little")
    hub.hold_after = header + 2 * BLOCK_BYTES  # whoever wants more waits until it is too late
    assert hub.hold_after < len(hub.files["model.safetensors"])
    done = program("hub", "peek", REPO, "model.safetensors", "--json")
    assert (done.code, done.json["kind"]) == (0, "checkpoint")
    hub.hold_after = None
    hub.files["bad.ckpt"] += bytes(3 << 20)  # its directory is at the end
    done = program("hub", "peek", REPO, "bad.ckpt")
    assert done.code == 3
    assert "gives no parts of files" in done.err


@pytest.mark.parametrize(
    ("name", "code"), [("absent.ckpt", "not_found"), ("../up.ckpt", "bad_value")]
)
def test_a_file_that_is_not_there_is_named(
    hub: HubServer, program: Program, name: str, code: str
) -> None:
    done = program("hub", "peek", REPO, name, "--json")
    assert done.code != 0
    assert done.json["errors"][0]["code"] == code
    assert hub.fetched == []


def test_a_page_under_a_weights_name_is_called_what_it_is(hub: HubServer, program: Program) -> None:
    done = program("hub", "peek", REPO, "page.bin", "--json")
    assert done.code == 1
    assert done.json["kind"] == "unknown"
    assert "HTML" in done.json["error"]
