"""`hub download --cache`: files where huggingface_hub has its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.hub_server import COMMIT, HubServer
from helpers.loopback import Instead
from huggingface_hub import constants, file_download, try_to_load_from_cache

from assetmgr.sources import hub_cache

if TYPE_CHECKING:
    from conftest import Done

    Program = Callable[..., Done]

REPO = "org/gems"
GEM = "gem.safetensors"


def cached(hub: HubServer) -> Path:
    """Where huggingface_hub has the file."""
    folder = Path(os.environ["HF_HOME"]) / "hub" / "models--org--gems" / "snapshots" / COMMIT
    return folder / GEM


def test_a_file_lies_in_the_cache_as_huggingface_hub_wants_it_and_is_registered_there(
    hub: HubServer, program: Program
) -> None:
    done = program("hub", "download", REPO, GEM, "--cache", "--json")
    assert (done.code, done.err) == (0, "")
    path = cached(hub)
    assert path.read_bytes() == hub.files[GEM]
    assert path.resolve().name == hub.sha256(GEM)
    found = try_to_load_from_cache(REPO, GEM, cache_dir=path.parents[3], revision=COMMIT)
    assert found == str(path)
    (item,) = done.json
    assert (item["path"], item["kind"]) == (str(path), "embedding")
    assert item["state"] == "downloaded"
    asset = program("show", GEM.partition(".")[0], "--json").json
    (source,) = asset["sources"]
    assert (source["repo"], source["revision"]) == (REPO, COMMIT)
    hub.requests.clear()
    (item,) = program("hub", "download", REPO, GEM, "--cache", "--json").json
    assert (item["state"], hub.fetched) == ("already", [])
    scanned = program("scan", path.parents[3], "--json").json
    assert (scanned["added"], scanned["unchanged"]) == (0, 1)


@pytest.mark.parametrize("again", [(), ("--again",)])
def test_a_mirror_that_cannot_tell_of_a_file_is_no_broken_connection(
    hub: HubServer, program: Program, again: tuple[str, ...]
) -> None:
    hub.instead = [Instead(501, 9, below=f"/{REPO}/resolve/")]
    done = program("hub", "download", REPO, GEM, "--cache", *again)
    assert done.code == 3
    assert "the Hub answers with status 501" in done.err
    assert not cached(hub).exists()


def test_what_is_damaged_in_the_cache_is_fetched_once_more(
    hub: HubServer, program: Program
) -> None:
    program("hub", "download", REPO, GEM, "--cache")
    blob = cached(hub).resolve()
    blob.write_bytes(bytes(len(hub.files[GEM])))
    done = program("hub", "download", REPO, GEM, "--cache", "--json")
    assert (done.code, done.json[0]["state"]) == (0, "downloaded")
    assert cached(hub).read_bytes() == hub.files[GEM]


def test_bytes_that_were_not_announced_are_not_registered_from_the_cache(
    hub: HubServer, program: Program
) -> None:
    hub.announced[GEM] = "0" * 64
    done = program("hub", "download", REPO, GEM, "--cache", "--json")
    assert (done.code, done.json[0]["code"]) == (1, "corrupt")
    assert program("list", "--json").json["total"] == 0


@pytest.mark.parametrize("is_installed", [True, False])
def test_what_hf_xet_cannot_bring_comes_into_the_cache_over_http(
    hub: HubServer, program: Program, monkeypatch: pytest.MonkeyPatch, is_installed: bool
) -> None:
    tried: list[object] = []

    def blocked(**options: object) -> None:
        tried.append(options)
        assert os.environ.items() >= hub_cache.IMPATIENCE.items(), "it waits for minutes by itself"
        raise RuntimeError("CAS Client Error: https://cas.example/?signature=s3cret")

    def is_available() -> bool:
        return is_installed and not constants.HF_HUB_DISABLE_XET

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setattr(file_download, "xet_get", blocked)
    monkeypatch.setattr(file_download, "is_xet_available", is_available)
    monkeypatch.setattr(hub_cache, "find_spec", lambda _: is_installed or None)
    hub.xet = True
    done = program("hub", "download", REPO, GEM, "--cache", "--json")
    assert (done.code, len(tried)) == (0, int(is_installed))
    assert cached(hub).read_bytes() == hub.files[GEM]
    assert "s3cret" not in done.out + done.err
