"""`assetmgr restore`: what went to the trash comes back as it was."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cli_models
import pytest

from assetmgr.operations import system_trash
from assetmgr.operations.system_trash import described_by_windows, mac

if TYPE_CHECKING:
    from conftest import Program

freedesktop_only = pytest.mark.skipif(
    sys.platform in {"win32", "darwin"}, reason="the real trash of freedesktop.org"
)


@pytest.fixture
def folder(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model with things beside it, scanned; the trash is in the test's own folder."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    send2trash = pytest.importorskip("send2trash.plat_other")
    monkeypatch.setattr(send2trash, "HOMETRASH_B", os.fsencode(tmp_path / "data" / "Trash"))
    folder = tmp_path / "lib [é]%20"
    folder.mkdir()
    cli_models.lora(folder / "style.safetensors", text=False)
    (folder / "style.json").write_text('{"notes": "mine"}')
    program("scan", folder)
    return folder


@freedesktop_only
def test_a_file_comes_back_with_what_lay_beside_it(program: Program, folder: Path) -> None:
    before = (folder / "style.safetensors").read_bytes()
    assert program("trash", "#1").code == 0
    assert list(folder.iterdir()) == []
    said = program("restore", "#1", "--dry-run", "--json").json["restored"]
    assert list(folder.iterdir()) == []
    assert program("restore", "#1", "--json").json["restored"] == said
    assert (folder / "style.safetensors").read_bytes() == before
    assert (folder / "style.json").read_text() == '{"notes": "mine"}'
    assert program("show", "#1", "--json").json["files"][0]["state"] == "present"
    assert program("scan", "--json").json["unchanged"] == 1
    assert [*(folder.parent / "data/Trash/info").iterdir()] == []


@freedesktop_only
def test_nothing_is_replaced_and_nothing_else_is_taken_for_the_file(
    program: Program, folder: Path
) -> None:
    program("trash", "#1")
    (folder / "style.safetensors").write_bytes(b"new")
    done = program("restore", "#1", "--json")
    assert done.json["errors"][0]["code"] == "target_exists"
    assert (folder / "style.safetensors").read_bytes() == b"new"
    (folder / "style.safetensors").unlink()
    (lying,) = (folder.parent / "data/Trash/files").glob("*.safetensors")
    lying.write_bytes(b"other")
    done = program("restore", "#1", "--json")
    assert (done.code, done.json["errors"][0]["error"]) == (1, "is not in the trash")


def test_what_is_there_is_not_restored(program: Program, folder: Path) -> None:
    done = program("restore", "#1")
    assert done.code == 1
    assert "no file of this asset is missing" in done.err


@pytest.mark.parametrize("version", [1, 2])
def test_the_recycle_bin_of_windows_says_where_files_were(tmp_path: Path, version: int) -> None:
    path = "D:\\models\\[é] ink.safetensors"
    head = struct.pack("<QQQ", version, 5, 0)
    length = struct.pack("<I", len(path) + 1) if version == 2 else b""
    (tmp_path / "$IABC.safetensors").write_bytes(head + length + (path + "\0").encode("utf-16-le"))
    (tmp_path / "$RABC.safetensors").write_bytes(b"bytes")
    (tmp_path / "$Ibroken").write_bytes(b"\1")
    (found,) = described_by_windows(tmp_path)
    assert (found.original, found.place.read_bytes()) == (path, b"bytes")


def test_the_trash_of_a_mac_knows_names_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_trash.Path, "expanduser", lambda _: tmp_path)
    (tmp_path / "ink.safetensors").write_bytes(b"bytes")
    found = [each for each in mac() if each.place.parent == tmp_path]
    assert [each.was("/models/ink.safetensors") for each in found] == [True]
    assert not found[0].was("/models/other.safetensors")
