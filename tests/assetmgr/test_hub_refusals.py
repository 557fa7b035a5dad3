"""What the Hub refuses, what cannot be reached, and who is told the token."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from helpers.hub_server import HubServer
from helpers.loopback import Instead
from huggingface_hub import get_session

from assetmgr.sources.hub import client as hub_client

if TYPE_CHECKING:
    from conftest import Done

    Program = Callable[..., Done]

REPO = "org/gems"
GEM = "gem.safetensors"


def test_a_repository_that_is_not_there_is_named(hub: HubServer, program: Program) -> None:
    done = program("hub", "download", "org/absent", "--json")
    assert (done.code, done.json["errors"][0]["code"]) == (1, "not_found")
    assert "org/absent: the Hub has no such repository" in done.err
    done = program("hub", "download", f"{REPO}@nowhere", GEM)
    assert (done.code, done.errors) == (
        1,
        [f"error: {REPO}/{GEM}: the repository has no such revision"],
    )
    assert program("hub", "download", "../absent").code == 2


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        ((403, "GatedRepo"), "restricted"),
        ((401, "GatedRepo"), "restricted"),
        ((401, None), "refuses access"),
        ((403, None), "refuses access"),
        ((500, None), "status 500"),
    ],
)
def test_what_the_hub_refuses_is_not_available(
    hub: HubServer,
    program: Program,
    monkeypatch: pytest.MonkeyPatch,
    refusal: tuple[int, str | None],
    told: str,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.refusal = refusal
    done = program("hub", "download", REPO, GEM, "--json")
    assert (done.code, done.json[0]["code"]) == (3, "not_available")
    assert told in done.err
    assert ("HF_TOKEN" in done.err) is (refusal[0] != 500)
    assert "hf_secret" not in done.err + done.out


def test_a_message_in_the_place_of_a_file_is_called_so(hub: HubServer, program: Program) -> None:
    told = {"Content-Type": "application/json"}
    hub.instead = [Instead(200, headers=told, body=b'{"error": "later"}', below="/cdn/")]
    done = program("hub", "download", REPO, GEM)
    assert done.code == 3
    assert f"{REPO}/{GEM}: the Hub answers with a message instead of the file" in done.err


def test_a_token_goes_to_the_hub_and_to_no_other_host(
    hub: HubServer, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert program("hub", "download", REPO, GEM).code == 0
    assert hub.tokens == {"service": {"Bearer hf_secret"}, "cdn": {None}}


def test_whatever_huggingface_hub_asks_of_another_host_gets_no_token(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where an answer names the address of Xet storage, which it takes for the Hub's."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    secrets = {"Authorization": "Bearer hf_secret", "Cookie": "hf_secret"}
    with hub_client.asking(REPO):
        session = get_session()
        session.get(f"{hub.cdn}/cdn/{GEM}", headers=secrets)
        session.get(f"{hub.url}/{REPO}/resolve/main/README.md", headers=secrets)
    assert hub.tokens == {"service": {"Bearer hf_secret"}, "cdn": {None}}


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "nonsense", "http://[", "ftp://x"])
def test_a_hub_that_cannot_be_reached_is_not_available(
    hub: HubServer, program: Program, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    for arguments in ([REPO, GEM], [REPO]):
        done = program("hub", "download", *arguments)
        assert done.code == 3, done.err
        assert len(done.errors) == 1
        assert "HF_ENDPOINT" in done.err


def test_being_offline_is_not_available_as_a_whole_process(
    hub: HubServer, process: Callable[..., Done]
) -> None:
    done = process("hub", "download", REPO, GEM, "--json", env={"HF_HUB_OFFLINE": "1"})
    assert (done.code, json.loads(done.out)[0]["code"]) == (3, "not_available")
    assert done.err == (
        f"error: {REPO}/{GEM}: the network is switched off\nhint: unset HF_HUB_OFFLINE\n"
    )
    assert hub.requests == []


def test_a_gate_says_what_a_token_in_use_is_missing(
    hub: HubServer, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.refusal = (403, "GatedRepo")
    assert "then log in" in program("hub", "peek", REPO, GEM).err
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789abcdef")
    assert "with the account of the token in use" in program("hub", "peek", REPO, GEM).err
