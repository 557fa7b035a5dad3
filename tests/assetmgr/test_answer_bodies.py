"""Answers that are no files: unpacked no further than wanted, through a proxy if one is set."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from helpers.hub_server import HubServer
from helpers.loopback import Instead
from helpers.scripted_server import Content, Reply, ScriptedServer

from assetmgr.sources import bodies
from assetmgr.sources.bodies import OtherEncoding, body_within
from assetmgr.sources.hub import account as hub_account
from assetmgr.sources.hub import models as hub_models
from assetmgr.sources.hub.models import HubModel
from assetmgr.sources.hub.web import connect
from assetmgr.sources.transfers import trickle
from assetmgr.sources.transfers.bandwidth import Bandwidth
from assetmgr.sources.transfers.transfer import Transfer
from assetmgr.sources.web import Web
from converters.errors import AssetmgrError, FileMissing, NotAvailable
from converters.progress import SILENT

TEXT = b'{"models": []}' * 100
BOMB = gzip.compress(bytes(64 << 20), 1, mtime=0)
"""Of 64 MB, in 300 KB."""


def answer(body: bytes, encoding: str | None = None) -> httpx.Response:
    packed = {} if encoding is None else {"Content-Encoding": encoding}
    pieces = (body[start : start + 1000] for start in range(0, len(body), 1000))
    return httpx.Response(200, headers=packed, content=pieces)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [(None, TEXT), ("gzip", gzip.compress(TEXT, mtime=0)), ("deflate", zlib.compress(TEXT))],
    ids=["plain", "gzip", "deflate"],
)
def test_a_body_is_what_was_packed_and_cut_where_it_is_too_long(
    encoding: str | None, body: bytes
) -> None:
    assert body_within(answer(body, encoding), 1 << 20) == TEXT
    assert body_within(answer(body, encoding), 100) == TEXT[:100]


def test_a_bomb_is_unpacked_no_further_than_to_the_bound() -> None:
    bomb = answer(BOMB, "gzip")
    tracemalloc.start()
    try:
        assert body_within(bomb, 100_000) == bytes(100_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize(("encoding", "body"), [("br", b"x"), ("zstd", b"x"), ("gzip", b"page")])
def test_what_cannot_be_unpacked_is_refused(encoding: str, body: bytes) -> None:
    with pytest.raises(OtherEncoding):
        body_within(answer(body, encoding), 1000)


def test_a_service_that_answers_with_a_bomb_is_told_from_one_that_answers() -> None:
    def burst(_: object) -> Reply:
        return Reply(200, BOMB, {"Content-Encoding": "gzip"})

    with (
        ScriptedServer(burst) as server,
        Web("the service", server.url, None, "SERVICE_ENDPOINT") as web,
        web.open("/api", "the search") as found,
        pytest.raises(NotAvailable, match="not that of the service"),
    ):
        web.read(found, "the search")
    assert "br" not in server.requests[0].headers["accept-encoding"]


def told_of(repo: str) -> HubModel:
    with connect() as web:
        return hub_models.repository(web, repo)


@pytest.mark.parametrize("status", [200, 403, 404])
def test_a_bomb_of_the_hub_costs_no_more_than_an_answer_may(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_models, "MOST_ANSWER_BYTES", 1 << 20)
    bomb = Instead(status, headers={"Content-Encoding": "gzip"}, body=BOMB)
    with HubServer("org/gems", {}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        told_of("org/gems")  # what is imported late is imported now
        with pytest.raises(FileMissing):
            told_of("org/stones")
        hub.instead = [bomb]
        tracemalloc.start()
        try:
            with pytest.raises((NotAvailable, FileMissing)):
                told_of("org/gems")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 16 << 20


SLOW = {
    "never at its end": (bodies, "LONGEST_SECONDS", -1.0),
    "a trickle": (trickle, "DYING_SECONDS", 0.0),
}


@pytest.mark.parametrize(("module", "name", "seconds"), SLOW.values(), ids=list(SLOW))
def test_an_answer_that_drips_is_given_up_by_both_clients(
    module: ModuleType, name: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        HubServer("org/gems", {}) as hub,
        Web("the service", hub.url, None, "SERVICE_ENDPOINT") as web,
    ):
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setattr(trickle, "DYING_RATE", 1e15)
        monkeypatch.setattr(module, name, seconds)
        hub.users["hf_secret"] = "somebody"
        with pytest.raises(NotAvailable, match=r"the Hub (answers too slowly|cannot be reached)"):
            hub_account.whose("hf_secret")
        with (
            web.open("/api/models", "the search") as found,
            pytest.raises(NotAvailable, match="the service answers too slowly"),
        ):
            web.read(found, "the search")


def test_a_proxy_of_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refusal(_web: Web, status: int, _body: bytes, subject: str) -> AssetmgrError:
        return NotAvailable(f"status {status}", path=subject)

    data = bytes(2 << 20)  # large enough to be read directly, were there no proxy
    home = "http://127.0.0.1:9"
    with (
        ScriptedServer(Content(data).proper) as proxy,
        Web("the service", home, None, "SERVICE_ENDPOINT") as web,
    ):
        monkeypatch.setenv("http_proxy", proxy.url)
        part = tmp_path / "model.bin"
        Transfer(web, "/m", "model.bin", part, len(data), refusal, limit=Bandwidth()).run(SILENT)
    assert part.read_bytes() == data
    assert [request.path for request in proxy.requests] == [f"{home}/m"]
