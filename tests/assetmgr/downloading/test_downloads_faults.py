"""The queue when disks are full and programs are killed: nothing wrong is kept, and it goes on."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.hub_server import HubServer
from helpers.queueing import REPO, parts, queued, states
from sqlalchemy.exc import OperationalError

from assetmgr.operations.downloads.queue import cancel_downloads, list_downloads, shortages
from assetmgr.sources.hub.cache import cache_folder
from assetmgr.workspace import Workspace

if TYPE_CHECKING:
    from conftest import Done, Models

    Program = Callable[..., Done]

MIB = 1 << 20


def test_what_does_not_fit_beside_what_is_coming_is_not_begun(
    hub: HubServer, program: Program, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - as shutil has it
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 0, 250_000))
    hub.together = threading.Barrier(2)
    done = program("hub", "download", REPO, "--queue")
    assert "what is queued needs 400.0 kB, 250.0 kB are free" in done.err
    (short,) = shortages(workspace)
    assert (short.needed, short.free) == (400_006, 250_000)
    done = program("downloads", "run", "--json")
    assert done.code == 1
    found = [item["state"] for item in done.json["downloads"]]
    assert sorted(found) == ["done", "done", "failed", "failed"]
    assert {error["code"] for error in done.json["errors"]} == {"disk_full"}
    monkeypatch.undo()


def test_a_disk_that_fills_up_on_the_way_fails_what_it_is_full_for_and_keeps_what_came(
    hub: HubServer, program: Program, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assetmgr.sources.transfers import sink

    real = sink.write_all

    def full(stream: object, data: memoryview) -> None:
        if len(data) > 100_001:
            real(stream, data[:5000])  # type: ignore[arg-type]
            raise OSError(28, "No space left on device")
        real(stream, data)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(sink, "write_all", full)
        done = program("hub", "download", REPO, "--json")
    assert done.code == 1
    assert [item.get("code") for item in done.json] == [None, None, "disk_full", "disk_full"]
    assert sorted(parts(workspace.paths.models).values()) == [5000, 5000]
    hub.requests.clear()
    assert program("downloads", "run").code == 0, "there is room now"
    assert sorted(line.rpartition("bytes=")[2] for line in hub.fetched if "/cdn/" in line) == [
        "5000-",
        "5000-",
    ]


FULL = sqlite3.OperationalError("database or disk is full")
FULL_DATABASES = {
    "queue.db": ("registry.downloads.runner.now", FULL),
    "library.db": (
        "registry.scanning.recording.keep_search_texts",
        OperationalError("INSERT", {}, FULL),
    ),
}
"""A step within a transaction, and how the driver says that there is no room for it."""


@pytest.mark.parametrize("database", FULL_DATABASES)
def test_a_database_on_a_full_disk_is_named_and_the_next_run_finishes(
    hub: HubServer,
    program: Program,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    database: str,
) -> None:
    step, error = FULL_DATABASES[database]

    def full(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(step, full)
        done = program("hub", "download", REPO, "file0.bin")
    assert done.code != 0
    (line,) = [line for line in done.err.splitlines() if line.startswith("error:")]
    assert f"{database}: cannot grow: the disk is full" in line
    require_nothing_wrong(hub, workspace)
    assert set(states(workspace).values()) <= {"queued", "failed"}
    hub.requests.clear()
    again = program("hub", "download", REPO, "file0.bin", "--json")
    assert (again.code, again.err) == (0, "")
    assert [line for line in hub.fetched if "/cdn/" in line] == []
    assert states(workspace) == {"org/gems/file0.bin": "done"}
    require_nothing_wrong(hub, workspace)
    assert workspace.library.search().total == 1


# ---- crashes


def test_a_run_that_is_killed_at_any_moment_leaves_nothing_wrong_and_the_next_goes_on(
    hub: HubServer, workspace: Workspace, models: Models
) -> None:
    hub.files = {
        "a.bin": os.urandom(3 * MIB),
        "b.bin": os.urandom(100_000),
        "style.safetensors": models.lora.read_bytes(),
    }
    script = Path(__file__).with_name("killed_downloads.py")
    with subprocess.Popen(
        [sys.executable, script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as victims:
        queued(workspace, *hub.files)
        whole = run_killed(victims, 0)
        for point in range(1, 6):
            forget_everything(workspace)
            is_cached = point % 2 == 0
            queued(workspace, *hub.files, cache=is_cached)
            run_killed(victims, max(1, whole * point // 6))
            require_nothing_wrong(hub, workspace)
            run_killed(victims, max(1, whole * (point % 5 + 1) // 7))
            root = cache_folder() if is_cached else workspace.paths.models
            kept = parts(root)
            hub.requests.clear()
            run_killed(victims, 0)
            require_nothing_wrong(hub, workspace)
            assert set(states(workspace).values()) == {"done"}
            assert parts(root) == {}
            begun = [int(found[1]) for line in hub.fetched if (found := _RANGE.search(line))]
            assert set(begun) <= set(kept.values()), "what is there is not fetched again"
            assert sum(size > 0 for size in kept.values()) >= len(begun)
        victims.stdin.close()  # type: ignore[union-attr]


_RANGE = re.compile(r"bytes=(\d+)-")


def run_killed(victims: subprocess.Popen[str], calls: int) -> int:
    """A run that kills itself after so many calls, or not at all; gives how many there were."""
    assert victims.stdin is not None
    assert victims.stdout is not None
    print(calls, file=victims.stdin, flush=True)
    told = victims.stdout.readline().split()
    if told[0] == "calls":
        assert victims.stdout.readline().split() == ["end", "0"]
        return int(told[1])
    assert told == ["end", "-9"]
    return 0


def forget_everything(workspace: Workspace) -> None:
    cancel_downloads(workspace)
    shutil.rmtree(workspace.paths.models, ignore_errors=True)
    shutil.rmtree(cache_folder(), ignore_errors=True)
    workspace.library.forget([asset.id for asset in workspace.library.assets("")])
    for each in list_downloads(workspace):
        cancel_downloads(workspace, [each.id])


def require_nothing_wrong(hub: HubServer, workspace: Workspace) -> None:
    """Every name holds the whole file, and so does everything that is registered."""
    contents = set(hub.files.values())
    for path in (*workspace.paths.models.rglob("*"), *cache_folder().rglob("blobs/*")):
        if path.is_file() and path.parent.name != ".downloads":
            assert path.read_bytes() in contents, path
    for asset in workspace.library.assets(""):
        assert asset.path is not None
        assert Path(asset.path).read_bytes() in contents
        assert asset.hashes["sha256"] in {hub.sha256(name) for name in hub.files}
