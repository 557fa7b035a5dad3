"""`scan --watch`: the library follows its folders."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.from_a_terminal import from_a_terminal
from helpers.waiting import PATIENCE, wait_until

from assetmgr.config import Settings
from assetmgr.operations import watching
from assetmgr.operations.watching import together, watch
from assetmgr.paths import find_paths
from assetmgr.workspace import Workspace
from registry.scanning.scan_records import ScanReport

if TYPE_CHECKING:
    from conftest import Models


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("ASSETMGR_HOME", str(tmp_path / "watched" / "home"))
    monkeypatch.setattr(watching, "QUIET_MS", 50)
    monkeypatch.setattr(watching, "AGAIN_MS", 100)
    with Workspace(Settings(), find_paths()) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path, models: Models) -> Path:
    """A folder with one model; the program's own state lies in it too."""
    (tmp_path / "watched").mkdir(exist_ok=True)
    shutil.copy(models.lora, tmp_path / "watched" / "a.safetensors")
    return tmp_path / "watched"


class Follow:
    """Watches in a thread, and waits for what is to happen."""

    def __init__(self, workspace: Workspace, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rounds: list[bool] = []
        """Whether there was something to scan, each time that the watching looked."""
        touched = watching._touched
        monkeypatch.setattr(watching, "_touched", lambda *seen: self._note(touched(*seen)))
        self.reports: list[ScanReport] = []
        self.stop = threading.Event()
        arguments = (workspace, [str(folder)])
        self.thread = threading.Thread(target=self._run, args=arguments)
        self.thread.start()

    def _run(self, workspace: Workspace, paths: list[str]) -> None:
        for report in watch(workspace, paths, stop=self.stop):
            self.reports.append(report)

    def _note(self, touched: list[str]) -> list[str]:
        self.rounds.append(bool(touched))
        return touched

    def until(self, reached: Callable[[ScanReport], bool]) -> None:
        wait_until(
            lambda: self.reports and reached(together(self.reports)),
            going_on=self.thread.is_alive,
        )

    def until_all_is_quiet(self) -> None:
        wait_until(lambda: self.rounds[-3:] == [False] * 3, going_on=self.thread.is_alive)

    def end(self) -> None:
        self.stop.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


def test_what_comes_moves_and_goes_is_followed(
    workspace: Workspace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow = Follow(workspace, folder, monkeypatch)
    try:
        follow.until(lambda report: report.added == 1)
        content = bytearray((folder / "a.safetensors").read_bytes())
        content[-1] ^= 1
        (folder / "b.safetensors").write_bytes(content)
        follow.until(lambda report: report.added == 2)
        (folder / "a.safetensors").rename(folder / "c.safetensors")
        follow.until(lambda report: report.moved == 1)
        (folder / "b.safetensors").unlink()
        follow.until(lambda report: report.missing == 1)
        follow.until_all_is_quiet()  # the program's own writing wakes nobody
    finally:
        follow.end()
    assert [row.name for row in workspace.library.search("-is:missing").rows] == ["c"]


def test_what_comes_before_the_watching_begins_is_found(workspace: Workspace, folder: Path) -> None:
    reports = watch(workspace, [str(folder)])
    assert next(reports).added == 1
    shutil.copy(folder / "a.safetensors", folder / "b.safetensors")
    assert next(reports).added == 1
    reports.close()  # type: ignore[attr-defined]


def test_a_download_that_stalls_is_broken_until_it_is_whole(
    workspace: Workspace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray((folder / "a.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "b.safetensors").write_bytes(content[:-8])
    follow = Follow(workspace, folder, monkeypatch)
    try:
        follow.until(lambda report: report.failed == 1)
        assert workspace.library.search("kind:unknown").total == 1
        follow.until_all_is_quiet()
        (folder / "b.safetensors").write_bytes(content)
        follow.until(lambda report: report.updated == 1)
    finally:
        follow.end()
    assert [row.kind for row in workspace.library.search().rows] == ["lora", "lora"]


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGINT for other processes")
def test_ctrl_c_ends_it_with_one_document(folder: Path, tmp_path: Path) -> None:
    soon = "from assetmgr.operations import watching; watching.QUIET_MS = watching.AGAIN_MS = 100"
    command = [*from_a_terminal(soon), "scan", "--watch", "--json", str(folder)]
    environment = {**os.environ, "ASSETMGR_HOME": str(tmp_path / "home")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as process:
        try:
            _wait_for_files(tmp_path / "home" / "library.db", 1, process)
            shutil.copy(folder / "a.safetensors", folder / "b.safetensors")
            # So the first report was told.
            _wait_for_files(tmp_path / "home" / "library.db", 2, process)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert json.loads(out)["roots"] == [str(folder)]
    assert err == ""


def _wait_for_files(database: Path, count: int, process: subprocess.Popen[str]) -> None:
    wait_until(lambda: _files_in(database) >= count, going_on=lambda: process.poll() is None)


def _files_in(database: Path) -> int:
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_open(database)) as connection:
        return int(connection.execute("SELECT count(*) FROM file").fetchone()[0])
    return 0  # the program has not made it yet


def _open(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{database}?mode=ro", uri=True)
