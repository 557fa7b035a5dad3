"""Transfers to disks that are full, or that other programs write to, too."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.scripted_server import Content, Reply, ScriptedServer
from helpers.transferring import CONTENT, DATA, SIZE, fetch, offset, reset

from assetmgr.sources.transfers import appending, unforeseen
from assetmgr.sources.transfers import sink as sinks
from converters.errors import DiskFull, WriteFailed
from converters.hashing import hash_file
from converters.writers import room

pytestmark = pytest.mark.usefixtures("waits")


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


def fill(patched: pytest.MonkeyPatch, limit: int) -> None:
    """Let the disk be full after so many bytes, wherever they are written."""
    full = FullAfter(limit)
    for module in (sinks, appending):
        patched.setattr(module, "write_all", full)
    patched.setattr(appending, "_written_past_cache", lambda *_: 0)


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
        fill(patched, limit)
        with pytest.raises(DiskFull, match="no space left"):
            fetch(server, part)
    assert part.read_bytes() == DATA[:limit]
    reset(server)
    arrived = fetch(server, part)
    assert (part.read_bytes(), arrived.hashes) == (DATA, hash_file(part).hashes)
    assert server.served == SIZE - limit


def test_room_for_a_large_file_is_taken_at_once_and_given_back_by_what_breaks_off(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "WORTHWHILE_BYTES", SIZE)
    monkeypatch.setattr(sinks, "BLOCK_BYTES", 4096)
    part, taken = tmp_path / "part", []
    reserve = room.reserve

    def noted(descriptor: int, nbytes: int) -> None:
        reserve(descriptor, nbytes)
        assert part.stat().st_size < SIZE
        taken.append(room.held_bytes(part))

    monkeypatch.setattr(sinks, "reserve", noted)
    with monkeypatch.context() as patched:
        fill(patched, 70_000)
        with pytest.raises(DiskFull):
            fetch(server, part)
    if not taken or taken[0] < SIZE:
        pytest.skip("this disk cannot have room taken on it")
    assert part.stat().st_size == 70_000
    assert room.held_bytes(part) < 70_000 + 65_536
    fetch(server, part)
    assert part.read_bytes() == DATA
    assert room.held_bytes(part) < SIZE + 65_536


def test_what_was_taken_by_a_call_that_was_killed_is_not_asked_of_the_disk_again(
    tmp_path: Path,
) -> None:
    part = tmp_path / "part"
    with part.open("wb") as stream:
        stream.write(b"beginning")
        room.reserve(stream.fileno(), room.WORTHWHILE_BYTES)
    if room.held_bytes(part) < room.WORTHWHILE_BYTES:
        pytest.skip("this disk cannot have room taken on it")
    with sinks.Sink(part, room.WORTHWHILE_BYTES) as sink:
        assert sink.take_up() == len(b"beginning")
        assert room.held_bytes(part) < 65_536
    assert room.held_bytes(tmp_path / "nothing") == 0


ON_A_TINY_DISK = """
import sys
from collections.abc import Callable
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from helpers.scripted_server import Content, Reply, ScriptedServer
from assetmgr.sources.transfers.transfer import Transfer
from assetmgr.sources.web import BrokenOff, Web
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


def refuse(*_: object) -> int:
    raise OSError(errno.EINVAL, "Invalid argument")


def take_few(descriptor: int, view: memoryview) -> int:
    return os.write(descriptor, view[:100])


def be_full(descriptor: int, view: memoryview) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes is fast, in blocks of a page."""
    monkeypatch.setattr(sinks, "FAST_RATE", 0)
    monkeypatch.setattr(sinks, "BLOCK_BYTES", appending.ALIGNMENT)


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("way", [None, refuse, take_few])
@pytest.mark.parametrize("kept", [0, 1, appending.ALIGNMENT])
def test_bytes_that_come_fast_past_the_cache_are_the_same(
    server: ScriptedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: Callable[[int, memoryview], int] | None,
    kept: int,
) -> None:
    """Also where the disk, or the place that an earlier call came to, has no such way."""
    part = tmp_path / "part"
    part.write_bytes(DATA[:kept])
    usual, passed = way or appending._written_past_cache, []

    def noted(descriptor: int, view: memoryview) -> int:
        passed.append(len(view))
        return usual(descriptor, view)

    monkeypatch.setattr(appending, "_written_past_cache", noted)
    arrived = fetch(server, part, pinned=True)
    assert (part.read_bytes(), arrived.hashes) == (DATA, hash_file(part).hashes)
    assert set(passed) == ({appending.ALIGNMENT} if kept != 1 else set())
    if way is refuse:
        assert len(passed) <= 1, "a disk that has no such way is not asked again"


@pytest.mark.usefixtures("fast")
def test_a_disk_that_is_full_for_bytes_past_the_cache_keeps_what_came(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = tmp_path / "part"
    with monkeypatch.context() as patched:
        patched.setattr(appending, "_written_past_cache", be_full)
        with pytest.raises(DiskFull, match="no space left"):
            fetch(server, part, pinned=True)
    assert DATA.startswith(part.read_bytes())
    fetch(server, part, pinned=True)
    assert part.read_bytes() == DATA


def test_an_empty_file_is_a_file(server: ScriptedServer, tmp_path: Path) -> None:
    reset(server, Content(b"").proper)
    arrived = fetch(server, tmp_path / "part", 0)
    assert arrived.hashes.sha256 == hashlib.sha256(b"").hexdigest()


def test_a_file_of_unknown_size_leaves_room_on_the_disk_and_is_gone_on_with(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks without end, from a server that announces nothing."""
    part = tmp_path / "part"
    monkeypatch.setattr(unforeseen, "LOOK_BYTES", 50_000)
    left = {"bytes": 1 << 40}

    def free(target: Path) -> tuple[int, int]:
        free, left["bytes"] = left["bytes"], 1 << 20
        return 0, free

    monkeypatch.setattr(unforeseen, "free_bytes", free)
    reset(server, lambda _: Reply(200, DATA, {"ETag": '"one"'}, length=None))
    with pytest.raises(DiskFull, match="nobody says how large it is") as caught:
        fetch(server, part, None)
    assert "1,048,576 are left" in caught.value.cause
    kept = part.read_bytes()
    assert DATA.startswith(kept)
    assert 100_000 <= len(kept) < SIZE
    monkeypatch.setattr(unforeseen, "LOOK_BYTES", 1 << 30)
    reset(server)
    fetch(server, part, None)
    assert part.read_bytes() == DATA
    assert offset(server) == [len(kept)]
