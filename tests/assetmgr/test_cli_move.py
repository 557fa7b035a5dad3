"""`assetmgr move` and `rename`: files get other names, what is known of them stays."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import cli_models
import pytest

import registry.storage.engines
from assetmgr.operations import moving

if TYPE_CHECKING:
    from conftest import Program


@pytest.fixture
def folder(program: Program, tmp_path: Path) -> Path:
    """A model with things beside it, scanned and tagged."""
    folder = tmp_path / "library"
    folder.mkdir()
    cli_models.lora(folder / "style.safetensors", text=False)
    (folder / "style.json").write_text('{"notes": "mine"}')
    (folder / "style.safetensors.rgthree-info.json").write_text('{"name": "x"}')
    (folder / "style-guide.txt").write_text("of something else")
    program("scan", folder)
    program("tag", "#1", "+mine")
    return folder


@pytest.fixture
def other_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file keeps its bytes when it is renamed: as between two disks."""
    monkeypatch.setattr(moving, "_linked", lambda *_: False)
    monkeypatch.setattr(moving, "_renamed", lambda *_: False)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


RENAMED = ["ink v2.json", "ink v2.safetensors", "ink v2.safetensors.rgthree-info.json"]


def test_a_renamed_file_takes_its_sidecars_along_and_keeps_what_is_known(
    program: Program, folder: Path
) -> None:
    done = program("rename", "#1", "ink v2", "--json")
    (item,) = done.json["moved"]
    assert (item["copied"], item["outside"]) == (False, False)
    assert names(folder) == [*RENAMED, "style-guide.txt"]
    shown = program("show", "ink v2", "--json").json
    assert (shown["id"], shown["name"], shown["tags"]) == (1, "ink v2", ["mine"])
    assert [Path(each["path"]).name for each in shown["sidecars"]] == RENAMED[::2]
    scanned = program("scan", "--json").json
    assert (scanned["unchanged"], scanned["missing"], scanned["moved"]) == (1, 0, 0)


@pytest.fixture
def no_hard_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where Python has no `os.link`, on Android for one."""

    def missing(*_: object) -> None:
        raise NotImplementedError("os.link() not available on this system")

    monkeypatch.setattr(Path, "hardlink_to", missing)


@pytest.mark.usefixtures("no_hard_links")
def test_where_there_are_no_hard_links_files_get_other_names_all_the_same(
    program: Program, folder: Path
) -> None:
    assert program("rename", "#1", "ink v2").code == 0
    assert names(folder) == [*RENAMED, "style-guide.txt"]
    done = program("link", "--layout", "comfyui", folder.parent / "view", "--as", "hardlink")
    assert done.code == 1
    assert done.errors[0].endswith(": this system has no such links")


def test_many_go_into_a_folder_that_is_made(program: Program, folder: Path) -> None:
    cli_models.lora(folder / "other.safetensors", text=True)
    program("scan")
    done = program("move", "#1", "other", "--to", folder / "new" / "loras", "--json")
    assert len(done.json["moved"]) == 2
    assert (folder / "new/loras/style.json").exists()
    places = [asset["files"][0]["path"] for asset in program("list", "--json").json["assets"]]
    assert {Path(place).parent for place in places} == {folder / "new" / "loras"}


@pytest.mark.usefixtures("other_disk")
def test_to_another_disk_the_bytes_are_copied_and_compared(program: Program, folder: Path) -> None:
    before = (folder / "style.safetensors").read_bytes()
    assert program("move", "#1", "--to", folder / "new").code == 0
    assert (folder / "new/style.safetensors").read_bytes() == before
    assert names(folder) == ["new", "style-guide.txt"]
    assert program("scan", "--json").json["unchanged"] == 1


@pytest.mark.usefixtures("other_disk")
def test_a_copy_that_differs_is_removed_and_the_file_stays(
    program: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_source: Path, place: Path, _progress: object) -> None:
        place.write_bytes(b"x" * 10)

    monkeypatch.setattr(moving, "copy", broken)
    done = program("move", "#1", "--to", folder / "new")
    assert done.code == 1
    assert (folder / "style.safetensors").exists()
    assert names(folder / "new") == []


@pytest.mark.parametrize("beside", ["ink.safetensors", "ink.json"])
def test_nothing_is_ever_replaced(program: Program, folder: Path, beside: str) -> None:
    (folder / beside).write_bytes(b"precious")
    done = program("rename", "#1", "ink", "--json")
    assert (done.code, done.json["errors"][0]["code"]) == (1, "target_exists")
    assert (folder / beside).read_bytes() == b"precious"
    assert (folder / "style.safetensors").exists()
    assert (folder / "style.json").exists()


def test_a_dry_run_only_says_it(program: Program, folder: Path) -> None:
    done = program("move", "#1", "--to", folder.parent / "elsewhere", "--dry-run")
    assert done.code == 0
    assert "outside of the library's folders" in done.err
    assert names(folder)[-1] == "style.safetensors.rgthree-info.json"
    assert not (folder.parent / "elsewhere").exists()


@pytest.mark.parametrize("name", ["", " ", "..", "a/b", "con", "ink?", ".hidden", "ink\x1b"])
def test_a_name_that_not_every_system_takes_is_refused(
    program: Program, folder: Path, name: str
) -> None:
    done = program("rename", "#1", name)
    assert done.code == 2
    assert len(done.errors) == 1
    assert (folder / "style.safetensors").exists()


def test_a_folder_that_is_a_file_is_named_once(program: Program, folder: Path) -> None:
    cli_models.lora(folder / "ink.safetensors", text=True)
    program("scan", folder)
    done = program("move", "#1", "#2", "--to", folder / "ink.safetensors", "--json")
    assert done.code == 1
    (error,) = done.json["errors"]
    assert (error["path"], error["error"]) == (str(folder / "ink.safetensors"), "is not a folder")


def test_only_the_spelling_of_a_name_can_change(program: Program, folder: Path) -> None:
    assert program("rename", "#1", "Style").code == 0
    assert "Style.safetensors" in names(folder)


def test_a_file_that_changed_or_is_gone_stays_as_it_is(program: Program, folder: Path) -> None:
    with (folder / "style.safetensors").open("ab") as file:
        file.write(b"x")
    assert program("rename", "#1", "ink", "--json").json["errors"][0]["code"] == "source_changed"
    (folder / "style.safetensors").unlink()
    program("scan")
    assert program("rename", "#1", "ink").code == 1


def test_a_link_goes_on_leading_to_its_file(program: Program, folder: Path, tmp_path: Path) -> None:
    model = cli_models.lora(tmp_path / "real.safetensors", text=True)
    (folder / "linked.safetensors").symlink_to(os.path.relpath(model, folder))
    program("scan")
    assert program("move", folder / "linked.safetensors", "--to", folder / "deep" / "er").code == 0
    assert (folder / "deep/er/linked.safetensors").samefile(model)


def test_a_library_that_cannot_be_written_leaves_the_file_where_it_was(
    program: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.storage.engines, "BUSY_SECONDS", 0.05)
    locker = sqlite3.connect(Path(os.environ["ASSETMGR_HOME"]) / "library.db", isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    try:
        assert program("rename", "#1", "ink").code != 0
    finally:
        locker.close()
    assert (folder / "style.safetensors").exists()
    assert program("show", "#1", "--json").json["files"][0]["state"] == "present"
