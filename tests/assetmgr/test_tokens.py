"""Tokens: kept for one address, sent to no other, and shown nowhere."""

from __future__ import annotations

import io
import logging
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import keyring
import pytest
from helpers.civitai_server import CivitaiServer
from helpers.examples import examples
from helpers.hub_server import HubServer
from helpers.loopback import Instead
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordDeleteError

from assetmgr.operations.doctor.services import civitai_token
from assetmgr.sources.hub import client as hub_client
from assetmgr.sources.tokens import Token, find_token, forget_token, store_token

if TYPE_CHECKING:
    from conftest import Done, Models

    Program = Callable[..., Done]

SECRET = "hf_s3cr3tS3cr3t"
REPO = "org/gems"


@pytest.fixture
def hub(models: Models, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    files = {"style.safetensors": models.lora.read_bytes(), "README.md": b"# Gems"}
    with HubServer(REPO, files, users={SECRET: "somebody"}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        yield server


@pytest.fixture
def site(models: Models, monkeypatch: pytest.MonkeyPatch) -> Iterator[CivitaiServer]:
    with CivitaiServer(users={SECRET: "somebody"}) as server:
        server.add(7, {"unet.safetensors": models.unet_lora.read_bytes()})
        monkeypatch.setenv("CIVITAI_ENDPOINT", server.url)
        yield server


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let a text stand in standard input."""
    return lambda text: monkeypatch.setattr(sys, "stdin", io.StringIO(text))


class FakeKeyring(KeyringBackend):
    """A keyring in memory."""

    priority = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.is_locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.is_locked:
            raise KeyringLocked
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.is_locked:
            raise KeyringLocked
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.kept.pop((service, username), None) is None:
            raise PasswordDeleteError


@pytest.fixture
def ring() -> Iterator[FakeKeyring]:
    before, made = keyring.get_keyring(), FakeKeyring()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(before)


def home() -> Path:
    return Path(os.environ["ASSETMGR_HOME"])


# ---- login and logout


def test_a_token_is_checked_and_lies_in_a_file_of_its_owner_alone(
    hub: HubServer, program: Program, typed: Callable[[str], None]
) -> None:
    typed(f"{SECRET}\n")
    done = program("login", "hub", "--json")
    assert done.code == 0
    file = home() / "tokens.json"
    assert (done.json["user"], done.json["place"]) == ("somebody", str(file))
    assert done.json["address"] == hub.url
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    program("hub", "info", REPO)
    assert hub.tokens["service"] == {f"Bearer {SECRET}"}


def test_what_was_logged_out_is_not_sent_any_more(
    site: CivitaiServer, program: Program, typed: Callable[[str], None]
) -> None:
    typed(SECRET)
    assert "logged in to" in program("login", "civitai").out
    assert "forgot the token" in program("logout", "civitai").out
    assert not (home() / "tokens.json").exists()
    site.tokens["service"].clear()
    program("civitai", "info", "@7")
    assert site.tokens["service"] == {None}
    assert "no token was kept" in program("logout", "civitai").out
    assert program("logout", "civitai", "--json").json["removed"] is False


@pytest.mark.parametrize("service", ["hub", "civitai"])
def test_a_token_that_is_refused_is_not_kept(
    service: str,
    hub: HubServer,
    site: CivitaiServer,
    program: Program,
    typed: Callable[[str], None],
) -> None:
    typed("hf_wrong")
    done = program("login", service)
    assert done.code == 3
    assert "is not accepted" in done.err
    assert "hf_wrong" not in done.err
    assert not (home() / "tokens.json").exists()


@pytest.mark.parametrize("text", ["", "\n", "two words", "naïve", "x\x1b[2J", "x" * 5000])
def test_what_cannot_be_a_token_is_refused_and_not_repeated(
    text: str, hub: HubServer, program: Program, typed: Callable[[str], None]
) -> None:
    typed(text)
    done = program("login", "hub")
    assert done.code == 2
    assert not text.strip() or text not in done.err
    assert hub.requests == []


def test_a_token_on_the_command_line_is_not_taken_and_not_repeated(program: Program) -> None:
    for switch in ((), ("--json",)):
        done = program("login", "hub", SECRET, *switch)
        assert done.code == 2
        assert SECRET not in done.out + done.err


def test_without_network_a_token_is_kept_unchecked(
    program: Program, typed: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    typed(SECRET)
    done = program("login", "hub", "--json")
    assert (done.code, done.json["checked"]) == (0, False)
    assert "was not checked" in done.err


def test_a_variable_goes_before_what_is_kept(
    hub: HubServer,
    program: Program,
    typed: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    typed(SECRET)
    done = program("login", "hub", "--json")
    assert done.json["overridden_by"] == "HF_TOKEN"
    hub.tokens["service"].clear()
    program("hub", "info", REPO)
    assert hub.tokens["service"] == {"Bearer hf_other"}


def test_a_token_is_for_its_address_alone(
    hub: HubServer,
    program: Program,
    typed: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    typed(SECRET)
    program("login", "hub")
    monkeypatch.setenv("HF_ENDPOINT", hub.cdn)
    program("hub", "info", REPO)
    assert hub.tokens["cdn"] == {None}


def test_what_hf_stored_is_for_the_hub_itself_and_not_for_mirrors(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stored = tmp_path / "token"
    stored.write_text(f"{SECRET}\n")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(stored))
    assert hub_client.token() is False
    assert hub_client.token({"ASSETMGR_HOME": str(home())}) == SECRET
    stored.unlink()
    assert hub_client.token({"ASSETMGR_HOME": str(home())}) is False


ORIGINS = st.builds(
    "{}://{}{}".format,
    st.sampled_from(["https", "http"]),
    st.sampled_from(["civitai.com", "civitai.com.evil.example", "localhost", "127.0.0.1"]),
    st.sampled_from(["", ":8443", "/api", "/?x=https://civitai.com"]),
)


@given(home=ORIGINS, other=ORIGINS)
@examples(30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_token_is_found_for_its_origin_and_for_no_other(home: str, other: str) -> None:
    store_token(SECRET, home)
    found = find_token((), other)
    forget_token(home)
    one, two = httpx.URL(home), httpx.URL(other)
    assert (found is not None) is (
        (one.scheme, one.host, one.port) == (two.scheme, two.host, two.port)
    )
    assert find_token((), home) is None


# ---- the keyring


def test_a_keyring_is_preferred_to_a_file(
    ring: FakeKeyring, hub: HubServer, program: Program, typed: Callable[[str], None]
) -> None:
    typed(SECRET)
    assert program("login", "hub", "--json").json["place"] == "keyring"
    assert ring.kept == {("assetmgr", hub.url): SECRET}
    assert SECRET not in (home() / "tokens.json").read_text()
    program("hub", "info", REPO)
    assert hub.tokens["service"] == {f"Bearer {SECRET}"}
    program("logout", "hub")
    assert ring.kept == {}


def test_a_keyring_that_is_locked_is_named_when_its_token_is_needed(
    ring: FakeKeyring, hub: HubServer, program: Program
) -> None:
    store_token(SECRET, hub.url)
    ring.is_locked = True
    done = program("hub", "info", REPO)
    assert done.code == 3
    assert "the keyring does not give the token" in done.err


def test_a_keyring_that_takes_nothing_leaves_the_token_to_the_file(ring: FakeKeyring) -> None:
    ring.is_locked = True
    assert store_token(SECRET, "https://x") == str(home() / "tokens.json")
    found = find_token((), "https://x")
    assert found is not None
    assert found.secret == SECRET


# ---- the file


@pytest.mark.parametrize("text", ["", "[", "\xff", '{"https://huggingface.co": "a b"}'])
def test_a_broken_file_of_tokens_is_named_and_not_shown(text: str, program: Program) -> None:
    (home() / "tokens.json").write_text(text, "latin-1")
    done = program("hub", "info", REPO)
    assert done.code in {1, 2}
    assert "tokens.json" in done.err
    assert "Traceback" not in done.err
    store_token(SECRET, "https://huggingface.co")
    found = find_token((), "https://huggingface.co")
    assert found is not None, "logging in again mends it"


def test_doctor_says_where_a_token_is_and_who_else_can_read_it() -> None:
    store_token(SECRET, "https://civitai.com")
    check, file = civitai_token(os.environ), home() / "tokens.json"
    assert (check.ok, check.detail) == (True, f"from {file}")
    if os.name == "posix":
        file.chmod(0o644)
        check = civitai_token(os.environ)
        assert (check.ok, check.detail) == (False, f"others can read {file}")


def test_a_token_is_not_in_its_own_repr() -> None:
    assert SECRET not in repr(Token(SECRET, "HF_TOKEN"))


# ---- nowhere else


def test_tokens_and_signatures_are_in_no_output_log_file_or_database(
    hub: HubServer,
    site: CivitaiServer,
    program: Program,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("CIVITAI_TOKEN", SECRET)
    echo = f'{{"error":"no access for {SECRET}"}}'.encode()
    far = f"http://203.0.113.1/x?signature=s3cret&token={SECRET}"
    said: list[Done] = []

    def go(*call: str) -> None:
        said.extend((program(*call, "--verbose"), program(*call, "--json")))

    go("hub", "search", "gems")
    go("hub", "info", REPO)
    go("hub", "peek", REPO, "style.safetensors")
    for answer in (
        Instead(401, 2, {"X-Error-Message": f"bad {SECRET}"}, echo, "/org"),
        Instead(403, 2, {"X-Error-Code": "GatedRepo"}, echo, "/org"),
        Instead(302, 2, {"Location": far}, below="/org"),
        Instead(500, 8, {"Retry-After": "0"}, echo, "/org"),
    ):
        hub.instead = [answer]
        go("hub", "peek", REPO, "style.safetensors")
    go("hub", "download", REPO)
    for busy in (
        Instead(401, 2, body=echo, below="/api/download"),
        Instead(403, 2, body=echo, below="/api/download"),
        Instead(302, 2, headers={"Location": far}, below="/api/download"),
        Instead(200, 2, body=echo, below="/signed", headers={"Content-Type": "application/json"}),
    ):
        site.instead = [busy]
        go("civitai", "download", "7")
    go("civitai", "lookup", "#1")
    go("civitai", "download", "7")
    hub.instead = [Instead(403, 9, {"X-Error-Code": "GatedRepo"}, echo, "/org")]
    said.append(program("hub", "peek", REPO, "style.safetensors", "--debug"))
    site.instead = [Instead(403, 9, body=echo, below="/api")]
    said.append(program("civitai", "info", "7", "--debug"))

    assert hub.tokens["service"] == {f"Bearer {SECRET}"}
    assert hub.tokens["cdn"] == {None}
    assert site.tokens == {"service": {f"Bearer {SECRET}"}, "cdn": {None}}
    assert {done.code for done in said} >= {0, 3}
    assert any("Traceback" in done.err for done in said), "tracebacks are looked through too"
    files = [path for path in home().rglob("*") if path.is_file()]
    assert home() / "library.db" in files
    kept = {str(path): path.read_bytes() for path in files}
    shown = {f"run {n}": f"{done.out}{done.err}".encode() for n, done in enumerate(said)}
    for place, content in {**kept, **shown, "log": caplog.text.encode()}.items():
        assert SECRET.encode() not in content, place
        assert b"s3cret" not in content, place
