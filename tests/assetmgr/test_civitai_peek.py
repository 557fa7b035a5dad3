"""`civitai peek`: what a file there is, from a few kilobytes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cli_models
import pytest
from helpers.civitai_server import CivitaiServer
from helpers.loopback import Instead

from assetmgr.sources.remote import BLOCK_BYTES
from assetmgr.sources.web import Web

if TYPE_CHECKING:
    from conftest import Done, Models

    Program = Callable[..., Done]


@pytest.fixture
def site(
    models: Models, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[CivitaiServer]:
    """Version 7 has a checkpoint and a hostile pickle."""
    hostile = cli_models.hostile(tmp_path / "bad.ckpt", tmp_path / "it-was-run")
    with CivitaiServer() as server:
        monkeypatch.setenv("CIVITAI_ENDPOINT", server.url)
        monkeypatch.setattr(Web, "pause", lambda _, seconds, progress: progress.advance(0))
        files = {
            "model.safetensors": models.checkpoint.read_bytes(),
            "bad.ckpt": hostile.read_bytes(),
        }
        server.add(7, files, model=70)
        yield server


def test_a_file_is_identified_from_its_header_alone(
    site: CivitaiServer, program: Program, models: Models
) -> None:
    document = program("civitai", "peek", "70@7", "--json").json
    (local,) = program("inspect", models.checkpoint, "--json").json
    same = ("kind", "base", "layout", "tensors", "parameters", "dtypes", "bytes", "safety")
    assert {key: document[key] for key in same} == {key: local[key] for key in same}
    assert (document["model"], document["version"]) == ("70", "7")
    assert (document["file"], document["asset"]) == ("model.safetensors", None)
    header = int.from_bytes(models.checkpoint.read_bytes()[:8], "little")
    assert document["bytes_received"] <= header + 2 * BLOCK_BYTES < document["bytes"]
    assert len(site.fetched) <= document["requests"] <= 2


def test_what_the_library_has_already_is_said(
    site: CivitaiServer, program: Program, models: Models, tmp_path: Path
) -> None:
    program("scan", cli_models.alone(models.checkpoint, tmp_path).parent)
    assert "have it: #" in program("civitai", "peek", "7").out


def test_a_pickle_is_judged_and_not_run(
    site: CivitaiServer, program: Program, tmp_path: Path
) -> None:
    done = program("civitai", "peek", "7", "bad.ckpt", "--json")
    assert (done.code, done.json["safety"]["verdict"]) == (1, "dangerous")
    assert not (tmp_path / "it-was-run").exists()


def test_the_token_stays_with_the_site(
    site: CivitaiServer, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIVITAI_TOKEN", "s3cret")
    assert program("civitai", "peek", "7", "--json").code == 0
    assert "Bearer s3cret" in site.tokens["service"]
    assert site.tokens["cdn"] == {None}


@pytest.mark.parametrize(
    ("call", "code", "cause"),
    [
        (("7", "absent.ckpt"), 1, "has no file absent.ckpt"),
        (("8",), 1, "has no such thing"),
        (("https://civitai.com/models/70",), 2, "names a model"),
    ],
)
def test_what_is_not_there_is_named(
    site: CivitaiServer, program: Program, call: tuple[str, ...], code: int, cause: str
) -> None:
    done = program("civitai", "peek", *call)
    assert (done.code, len(done.errors)) == (code, 1)
    assert cause in done.err
    assert site.fetched == []


def test_a_server_that_gives_no_parts_is_named(site: CivitaiServer, program: Program) -> None:
    site.ranges = False
    done = program("civitai", "peek", "7")
    assert (done.code, len(done.errors)) == (3, 1)
    assert "gives no parts of files" in done.err


def test_a_refusal_of_the_storage_host_is_told(site: CivitaiServer, program: Program) -> None:
    site.instead.append(Instead(403, times=9, below="/signed", body=b"no"))
    done = program("civitai", "peek", "7")
    assert (done.code, len(done.errors)) == (3, 1)
    assert "refuses access" in done.err
