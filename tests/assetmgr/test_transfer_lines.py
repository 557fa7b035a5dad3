"""Transfers over lines that break, die, drip or stand still, and when they are given up."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from helpers.scripted_server import Content, Reply, Request, ScriptedServer
from helpers.transferring import CONTENT, SIZE, fetch, refused, reset

from assetmgr.sources.hub import files as huggingface
from assetmgr.sources.patience import LONGEST_WAIT_FOR_FILES, delay
from assetmgr.sources.transfers import direct, lines, trickle
from assetmgr.sources.web import BrokenOff, Web
from converters.errors import Cancelled, NotAvailable
from converters.progress import CancellableProgress

pytestmark = pytest.mark.usefixtures("waits")


def test_addresses_that_expire_are_asked_for_anew_and_get_no_token(
    server: ScriptedServer, tmp_path: Path
) -> None:
    def leads_away(_: Request) -> Reply:
        return Reply(302, b"", {"Location": f"{server.elsewhere}/signed?number=1"})

    def usual(request: Request) -> Reply:
        return (
            CONTENT.proper(request) if request.path != "/files/model.bin" else leads_away(request)
        )

    def expired(_: Request) -> Reply:
        return Reply(403, b"<Error>Request has expired")

    reset(server, usual, leads_away, CONTENT.cut(1000), leads_away, expired)
    fetch(server, tmp_path / "part")
    assert server.served - len(b"<Error>Request has expired") == SIZE
    tokens = {request.path: request.headers.get("authorization") for request in server.requests}
    assert tokens == {"/files/model.bin": "Bearer s3cret", "/signed?number=1": None}
    reset(server, lambda r: leads_away(r) if r.path == "/files/model.bin" else expired(r))
    assert "status 403" in refused(server, tmp_path / "other")
    assert len(server.requests) == 4, "once anew, not for ever"


def test_a_line_that_always_breaks_is_given_up_after_longer_and_longer_waits(
    server: ScriptedServer, tmp_path: Path, waits: list[float]
) -> None:
    reset(server, CONTENT.cut(10))
    assert "broke off" in refused(server, tmp_path / "part")
    assert len(server.requests) == len(lines.WAITS) + 1
    for waited, most in zip(waits, lines.WAITS, strict=True):
        assert most / 2 <= waited <= most
    assert (tmp_path / "part").stat().st_size == 10 * len(server.requests)


def test_a_line_that_brings_enough_each_time_is_never_given_up(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    monkeypatch.setattr(lines, "ENOUGH_BYTES", 20_000)
    reset(server, CONTENT.cut(20_000))
    fetch(server, tmp_path / "part")
    assert len(server.requests) == SIZE // 20_000
    assert not any(waits)


def test_a_connection_that_is_dying_is_made_anew(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trickle, "DYING_SECONDS", 0.0)
    monkeypatch.setattr(trickle, "DYING_RATE", 1e15)
    assert "dying" in refused(server, tmp_path / "part")


@contextlib.contextmanager
def dripping_heads() -> Iterator[str]:
    """The address of a server whose answers come letter by letter and have no end."""
    answers = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            while not answers.is_set():
                with contextlib.suppress(OSError), listening.accept()[0] as connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nX-More: ")
                    while not answers.is_set():
                        connection.sendall(b"x")
                        answers.wait(0.01)

        threading.Thread(target=drip, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        answers.set()


def test_the_head_of_an_answer_that_does_not_end_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(direct, "_HEAD_SECONDS", 0.0)
    with (
        dripping_heads() as url,
        Web("the service", url, None, "SERVICE_ENDPOINT") as web,
        pytest.raises(BrokenOff, match="broke off"),
        web.open("/x", "the answer"),
    ):
        pass


def test_the_head_of_an_answer_to_huggingface_hub_that_does_not_end_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trickle, "DYING_SECONDS", 0.1)
    with dripping_heads() as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(NotAvailable, match="the Hub cannot be reached"):
            huggingface.describe("org/gems", "model.safetensors", None)


def test_a_busy_server_is_asked_again_as_late_as_it_wants_whatever_our_clock_says(
    server: ScriptedServer, tmp_path: Path, waits: list[float]
) -> None:
    moment = 4e9  # the server's clock is decades ahead of ours
    dates = {"Date": formatdate(moment, usegmt=True)}
    later = {**dates, "Retry-After": formatdate(moment + 7, usegmt=True)}
    reset(server, CONTENT.proper, lambda _: Reply(429, b"", later))
    fetch(server, tmp_path / "part")
    assert waits == [pytest.approx(7, abs=1)]


def test_of_a_service_that_counts_requests_new_ones_are_waited_for(
    server: ScriptedServer, tmp_path: Path, waits: list[float]
) -> None:
    """As the Hub answers: without Retry-After, with the seconds until its window ends."""
    counted = {"RateLimit": '"resolvers";r=0;t=55', "RateLimit-Policy": '"fixed window";q=5;w=300'}
    reset(server, CONTENT.proper, lambda _: Reply(429, b"", counted))
    fetch(server, tmp_path / "part")
    assert waits == [55]
    later = {"RateLimit": '"resolvers"; r=0; t=240'}
    with pytest.raises(NotAvailable, match="too busy") as caught:
        delay("the Hub", "a file", later, 0)
    assert caught.value.hint == "try again in 240 seconds"
    assert delay("the Hub", "a file", later, 0, LONGEST_WAIT_FOR_FILES) == 240


def test_nobody_there_is_said_at_once_but_waited_for_in_the_middle(
    server: ScriptedServer, tmp_path: Path, waits: list[float]
) -> None:
    part = tmp_path / "part"
    with ScriptedServer(CONTENT.cut(1000)) as dead:
        pass
    with pytest.raises(NotAvailable, match="cannot be reached"):
        fetch(dead, part)
    assert waits == []

    def goes_away(request: Request) -> Reply:
        leaving.leave()
        return CONTENT.cut(1000)(request)

    with (
        ScriptedServer(goes_away) as leaving,
        pytest.raises(NotAvailable, match="cannot be reached"),
    ):
        fetch(leaving, part)
    assert len(waits) == len(lines.WAITS)
    assert part.stat().st_size == 1000


def test_a_stop_is_noticed_while_nothing_comes(server: ScriptedServer, tmp_path: Path) -> None:
    """The server holds the second half back until it is over."""
    data = os.urandom(3 << 20)
    over = threading.Event()

    def stalls(request: Request) -> Reply:
        reply = Content(data).proper(request)
        return Reply(200, reply.body[: 1 << 20], reply.headers, len(data), over)

    class Stops(CancellableProgress):
        calls = 0

        def advance(self, amount: int = 1) -> None:
            self.calls += not amount
            if self.calls == 2:
                self.cancel()
            super().advance(amount)

    reset(server, stalls)
    with pytest.raises(Cancelled):
        fetch(server, tmp_path / "part", len(data), progress=Stops())
    over.set()
    assert (tmp_path / "part").read_bytes() == data[: 1 << 20]
