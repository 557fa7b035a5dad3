"""Transfers from servers that do anything: the file arrives, or an error says why not."""

from __future__ import annotations

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from helpers.examples import examples
from helpers.scripted_server import Answer, Content, Reply, Request, ScriptedServer
from helpers.transferring import (
    CONTENT,
    DATA,
    NEW,
    OTHER,
    SIZE,
    WHOLE_STATES,
    fetch,
    offset,
    refused,
    reset,
)
from hypothesis import given
from hypothesis import strategies as st

from assetmgr.sources.transfers.bandwidth import BURST_SECONDS, Bandwidth
from assetmgr.sources.transfers.transfer import Transfer
from assetmgr.sources.web import Web
from converters.errors import AssetmgrError, NotAvailable
from converters.hashing import hash_file
from converters.progress import SILENT

pytestmark = pytest.mark.usefixtures("waits")


@pytest.mark.parametrize("kept", [OTHER, DATA + b"x"], ids=["other", "longer"])
def test_a_part_longer_than_the_file_is_asked_for_from_its_beginning_at_once(
    server: ScriptedServer, tmp_path: Path, kept: bytes
) -> None:
    part = tmp_path / "part"
    part.write_bytes(kept)
    assert fetch(server, part, pinned=True).hashes == hash_file(part).hashes
    assert part.read_bytes() == DATA
    assert offset(server) == [None]


# ---- what any server may do


def _says_another_place(request: Request) -> Reply:
    return CONTENT.part(request.start or 0, said=(request.start or 0) + 7)


def _drops(_: Request) -> Reply:
    return Reply(None)


def _is_busy(_: Request) -> Reply:
    return Reply(503, b"busy", {"Retry-After": "0"})


def _gives_a_page(_: Request) -> Reply:
    return Reply(200, b"<!doctype html><p>log in", {"Content-Type": "text/html"})


def _packs(_: Request) -> Reply:
    return Reply(200, b"packed", {"Content-Encoding": "gzip"})


ONE_STATE = st.one_of(
    st.integers(0, SIZE).map(CONTENT.cut),
    st.integers(0, 100).map(CONTENT.cut),
    st.sampled_from(
        [
            CONTENT.proper,
            CONTENT.whole,
            _says_another_place,
            _drops,
            _is_busy,
            _gives_a_page,
            _packs,
        ]
    ),
)
TWO_STATES = st.one_of(
    ONE_STATE, st.integers(0, SIZE).map(NEW.cut), st.sampled_from([NEW.proper, NEW.whole])
)
ANSWERS = st.one_of(
    st.tuples(st.lists(ONE_STATE, max_size=6), st.just(True)),
    st.tuples(st.lists(TWO_STATES, max_size=6), st.just(False)),
)
"""What a server does, and whether the file is pinned: then it has one content only."""


@examples(60)
@given(ANSWERS)
def test_whatever_happens_on_the_way_the_result_is_the_file_as_it_was_at_one_time(
    server: ScriptedServer, happens: tuple[list[Answer], bool]
) -> None:
    script, pinned = happens
    reset(server, CONTENT.proper, *script)
    with TemporaryDirectory() as folder:
        part = Path(folder, "x.assetmgr-part")
        for _ in range(len(script) + 1):
            try:
                arrived = fetch(server, part, None, pinned=pinned)
            except NotAvailable:
                continue
            break
        else:
            pytest.fail("it never arrives")
        data = part.read_bytes()
        assert data in ({DATA} if pinned else WHOLE_STATES)
        assert arrived.hashes == hash_file(part).hashes


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("cut", [0, 1, 8, 9, 100, 65_536, SIZE - 1, SIZE])
def test_a_transfer_goes_on_where_it_was_cut_and_nothing_is_fetched_twice(
    server: ScriptedServer, tmp_path: Path, cut: int, pinned: bool
) -> None:
    reset(server, CONTENT.proper, CONTENT.cut(cut))
    arrived = fetch(server, tmp_path / "part", pinned=pinned)
    assert (tmp_path / "part").read_bytes() == DATA
    assert arrived.hashes.sha256 == hashlib.sha256(DATA).hexdigest()
    assert offset(server) == ([None] if cut == SIZE else [None, cut or None])
    assert server.served == SIZE


# ---- what is refused


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply(206, DATA[5:], {"Content-Range": f"bytes 5-{SIZE - 1}/{SIZE}"}), "another part"),
        (Reply(206, DATA, {}), "another part"),
        (Reply(206, DATA, {"Content-Range": "bytes */9"}), "another part"),
        (Reply(206, DATA, {"Content-Range": "nonsense"}), "another part"),
        (Reply(200, DATA, {"Content-Encoding": "gzip"}), "another form"),
        (Reply(200, b"<html>", {"Content-Type": "text/html; charset=x"}), "a web page"),
        (Reply(200, b"\n <!DOCTYPE html>" + DATA), "a web page"),
        (Reply(200, b'{"error": 1}'.ljust(SIZE)), "a JSON text"),
        (Reply(200, b'{"error": 1}', {"Content-Type": "application/json"}), "status 200"),
        (Reply(200, DATA + bytes(2000)), "302,000 bytes, announced were 300,000"),
        (Reply(200, DATA + bytes(2000), length=None), "302,"),
        (Reply(403, b"no"), "status 403"),
        (Reply(416, b"no"), "no bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_answer_that_is_not_the_file_is_called_what_it_is_and_not_kept(
    server: ScriptedServer, tmp_path: Path, reply: Reply, told: str
) -> None:
    part = tmp_path / "part"
    if reply.length is None:
        reset(server, lambda _: reply)
    else:
        reset(server, CONTENT.proper, lambda _: reply)
    assert told in refused(server, part)
    assert part.read_bytes() == b"" or reply.length is None
    reset(server)
    assert fetch(server, part).hashes.sha256 == hashlib.sha256(DATA).hexdigest()


def test_a_page_that_is_wanted_is_a_file(server: ScriptedServer, tmp_path: Path) -> None:
    page = b"<!doctype html><p>readme"
    reset(server, lambda _: Reply(200, page, {"Content-Type": "text/html"}))
    part = tmp_path / "part"

    def refusal(*_: object) -> AssetmgrError:
        return NotAvailable("no")

    with Web("the service", server.url, None, "SERVICE_ENDPOINT") as web:
        Transfer(web, "/x", "index.html", part, None, refusal, True).run(SILENT)
    assert part.read_bytes() == page


def test_a_header_whose_length_reads_like_json_begins_a_file(
    server: ScriptedServer, tmp_path: Path
) -> None:
    model = (0x227B).to_bytes(8, "little") + b'{"w":{}}'.ljust(0x227B)
    assert model.startswith(b'{"')
    reset(server, lambda _: Reply(200, model))
    fetch(server, tmp_path / "part", len(model))
    assert (tmp_path / "part").read_bytes() == model


# ---- states of the file


def test_a_file_that_changes_in_the_middle_is_begun_anew(
    server: ScriptedServer, tmp_path: Path
) -> None:
    reset(server, NEW.proper, CONTENT.cut(1000))
    fetch(server, tmp_path / "part", None)
    assert (tmp_path / "part").read_bytes() == OTHER
    assert [request.headers.get("if-range") for request in server.requests] == [None, '"one"']


def test_a_server_that_goes_on_with_another_state_is_found_out(
    server: ScriptedServer, tmp_path: Path
) -> None:
    reset(server, NEW.proper, CONTENT.cut(1000), lambda request: NEW.part(request.start or 0))
    fetch(server, tmp_path / "part", None)
    assert (tmp_path / "part").read_bytes() == OTHER
    assert offset(server) == [None, 1000, None]


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
def test_without_a_strong_name_for_the_state_nothing_is_gone_on_with(
    server: ScriptedServer, tmp_path: Path, tag: str
) -> None:
    nameless = Content(DATA, tag)
    reset(server, nameless.proper, nameless.cut(1000))
    fetch(server, tmp_path / "part")
    assert offset(server) == [None, None]
    reset(server, nameless.proper, nameless.cut(1000))
    fetch(server, tmp_path / "pinned", pinned=True)
    assert offset(server) == [None, 1000], "a pinned file has one content, whatever it is called"


# ---- the rate


def test_all_who_take_from_one_pace_keep_to_its_rate_together() -> None:
    now = 0.0
    pace = Bandwidth(1000.0, clock=lambda: now)
    first = pace.take(500)
    second = pace.take(500)
    assert (first, second) == (0.5 - BURST_SECONDS, 1.0 - BURST_SECONDS)
    now = 100.0
    assert pace.take(int(1000 * BURST_SECONDS)) == 0.0, "a rest may be made up for, but a short one"
    pace.change(None)
    assert pace.take(10**12) == 0.0
