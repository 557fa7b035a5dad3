"""Transfers over connections that do anything: the file arrives, or an error says why not."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from helpers.examples import examples
from helpers.scripted_server import Answer, Content, Reply, Request, ScriptedServer
from hypothesis import given
from hypothesis import strategies as st

from assetmgr.sources import lines
from assetmgr.sources import sink as sinks
from assetmgr.sources.bandwidth import BURST_SECONDS, Bandwidth
from assetmgr.sources.sink import Arrived
from assetmgr.sources.transfer import Transfer
from assetmgr.sources.web import Web
from converters.errors import (
    AssetmgrError,
    Cancelled,
    DiskFull,
    FileMissing,
    NotAvailable,
    WriteFailed,
)
from converters.hashing import hash_file
from converters.progress import SILENT, CancellableProgress, Progress

DATA = os.urandom(300_000)
OTHER = os.urandom(310_000)
SIZE = len(DATA)


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(Content(DATA).proper) as running:
        yield running


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch, server: ScriptedServer) -> list[float]:
    """The seconds that would have been waited."""
    waited: list[float] = []
    monkeypatch.setattr(Web, "pause", lambda _, seconds, progress: waited.append(seconds))
    reset(server)
    return waited


CONTENT = Content(DATA)
WHOLE_STATES = {DATA, OTHER}


def reset(server: ScriptedServer, usual: Answer = CONTENT.proper, *script: Answer) -> None:
    server.usual, server.script, server.requests, server.served = usual, list(script), [], 0


def fetch(
    server: ScriptedServer,
    part: Path,
    size: int | None = SIZE,
    *,
    pinned: bool = False,
    progress: Progress = SILENT,
) -> Arrived:
    def refusal(web: Web, status: int, body: bytes, subject: str) -> AssetmgrError:
        kind = FileMissing if status == 404 else NotAvailable
        return kind(f"status {status}", path=subject)

    path = "/files/model.bin"
    with Web("the service", server.url, "s3cret", "SERVICE_ENDPOINT") as web:
        return Transfer(web, path, "model.bin", part, size, refusal, pinned).run(progress)


def refused(server: ScriptedServer, part: Path, size: int | None = SIZE) -> str:
    """What is said of a transfer that fails."""
    with pytest.raises(NotAvailable) as caught:
        fetch(server, part, size)
    assert server.url.rpartition(":")[2] not in f"{caught.value} {caught.value.hint}"
    return str(caught.value)


def offset(server: ScriptedServer) -> list[int | None]:
    """Where each request began."""
    return [request.start for request in server.requests]


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


NEW = Content(OTHER, '"two"')
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
        (Reply(200, b'{"error": 1}' + DATA[12:]), "a JSON text"),
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


# ---- patience


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
    monkeypatch.setattr(lines, "DYING_SECONDS", 0.0)
    monkeypatch.setattr(lines, "DYING_RATE", 1e15)
    assert "dying" in refused(server, tmp_path / "part")


def test_a_busy_server_is_asked_again_as_late_as_it_wants_whatever_our_clock_says(
    server: ScriptedServer, tmp_path: Path, waits: list[float]
) -> None:
    moment = 4e9  # the server's clock is decades ahead of ours
    dates = {"Date": formatdate(moment, usegmt=True)}
    later = {**dates, "Retry-After": formatdate(moment + 7, usegmt=True)}
    reset(server, CONTENT.proper, lambda _: Reply(429, b"", later))
    fetch(server, tmp_path / "part")
    assert waits == [pytest.approx(7, abs=1)]


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


# ---- the disk


def test_a_folder_that_another_download_just_removes_is_made_again(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, made = tmp_path / ".downloads" / "part", Path.mkdir
    removed: list[Path] = []

    def made_and_removed(folder: Path, *args: object, **options: object) -> None:
        made(folder, *args, **options)  # type: ignore[arg-type]
        if folder == part.parent and len(removed) < 3:
            folder.rmdir()  # by the last download that was in it
            removed.append(folder)

    monkeypatch.setattr(Path, "mkdir", made_and_removed)
    fetch(server, part)
    assert part.read_bytes() == CONTENT.data
    assert len(removed) == 3


def test_another_program_at_the_same_bytes_is_noticed(
    server: ScriptedServer, tmp_path: Path
) -> None:
    part = tmp_path / "part"
    with sinks.Sink(part, None), pytest.raises(WriteFailed, match="another program"):
        fetch(server, part)


class FullAfter:
    """Writes of `os` that fail when so many bytes were written."""

    def __init__(self, limit: int) -> None:
        self.left = limit

    def __call__(self, stream: object, data: memoryview) -> None:
        if len(data) > self.left:
            stream.write(data[: self.left])  # type: ignore[attr-defined]
            self.left = 0
            raise OSError(28, "No space left on device")
        self.left -= len(data)
        stream.write(data)  # type: ignore[attr-defined]


@pytest.mark.parametrize("limit", [0, 1, 70_000, 299_999])
@pytest.mark.parametrize("block", [None, 4096])
def test_a_disk_that_fills_up_is_named_and_what_came_is_gone_on_with(
    server: ScriptedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    block: int | None,
) -> None:
    part = tmp_path / "part"
    if block is not None:  # many blocks in a small file: the threads are at work
        monkeypatch.setattr(sinks, "BLOCK_BYTES", block)
    with monkeypatch.context() as patched:
        patched.setattr(sinks, "_write_all", FullAfter(limit))
        with pytest.raises(DiskFull, match="no space left"):
            fetch(server, part)
    assert part.read_bytes() == DATA[:limit]
    reset(server)
    arrived = fetch(server, part)
    assert (part.read_bytes(), arrived.hashes) == (DATA, hash_file(part).hashes)
    assert server.served == SIZE - limit


ON_A_TINY_DISK = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from helpers.scripted_server import Content, Reply, ScriptedServer
from assetmgr.sources.transfer import Transfer
from assetmgr.sources.web import Web
from converters.errors import DiskFull
from converters.progress import SILENT

data, part = bytes(range(256)) * 40960, Path(sys.argv[2], "part")
content = Content(data)
endless = lambda _: Reply(200, data, {"ETag": content.tag}, None)
with ScriptedServer(content.proper, [endless]) as server, Web("x", server.url, None, "X") as web:
    transfer = Transfer(web, "/x", "x.bin", part, None, lambda *_: DiskFull("refused"))
    try:
        transfer.run(SILENT)
    except DiskFull as error:
        print(error.cause)
    kept = part.read_bytes()
    assert data.startswith(kept) and len(kept) > 1 << 20, len(kept)
    try:
        transfer.run(SILENT)
    except DiskFull as error:
        print(error.cause.partition(",")[0], server.requests[-1].start == len(kept))
"""


def test_a_disk_that_is_really_full_is_named(tmp_path: Path) -> None:
    """On a file system of four megabytes of its own, where this system lets tests make one."""
    script = tmp_path / "script.py"
    script.write_text(ON_A_TINY_DISK)
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=4m none '{disk}'"
    may = ["unshare", "-rm", "sh", "-c", mount]
    if (
        not shutil.which("unshare")
        or subprocess.run(may, capture_output=True, check=False).returncode
    ):
        pytest.skip("this system lets nobody make file systems")
    tests = Path(__file__).parents[1]
    run = f"{mount} && '{sys.executable}' '{script}' '{tests}' '{disk}'"
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", run],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    first, second = done.stdout.splitlines() or ("", done.stderr)
    assert first == "no space left on the disk"
    assert re.fullmatch(r"needs \d+ True", second), "what came is gone on with"


def test_blocks_of_any_size_give_the_same_file_and_hashes(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = b'{"a":1}'
    data = len(header).to_bytes(8, "little") + header + DATA
    reset(server, Content(data).proper)
    for number, block in enumerate((1000, 65_536, 1 << 21)):
        monkeypatch.setattr(sinks, "BLOCK_BYTES", block)
        part = tmp_path / f"part{number}"
        arrived = fetch(server, part, len(data))
        assert part.read_bytes() == data
        assert arrived.header_bytes == 8 + len(header)
        assert arrived.hashes == hash_file(part, header_bytes=arrived.header_bytes).hashes


def test_an_empty_file_is_a_file(server: ScriptedServer, tmp_path: Path) -> None:
    reset(server, Content(b"").proper)
    arrived = fetch(server, tmp_path / "part", 0)
    assert arrived.hashes.sha256 == hashlib.sha256(b"").hexdigest()


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
