"""`note`, `rate`, `forget` and `duplicates` on a folder of files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import cli_models
import pytest

if TYPE_CHECKING:
    from conftest import Models, Program


@pytest.fixture
def folder(program: Program, tmp_path: Path) -> Path:
    """Two files, scanned."""
    folder = tmp_path / "library"
    folder.mkdir()
    cli_models.lora(folder / "style.safetensors", text=False)
    cli_models.tiny(folder / "other.safetensors")
    program("scan", folder)
    return folder


def test_a_note_is_kept_found_and_removed(program: Program, folder: Path) -> None:
    path = folder / "style.safetensors"
    assert program("note", path, "best at 0.7", "--json").json["note"] == "best at 0.7"
    assert "best at 0.7" in program("show", path).out
    assert program("list", "best", "--json").json["total"] == 1
    assert program("note", path, "", "--json").json["note"] is None


def test_a_rating_goes_from_0_to_5(program: Program, folder: Path) -> None:
    path = folder / "style.safetensors"
    assert program("rate", path, 4, "--json").json["rating"] == 4
    assert "4/5" in program("rate", path, 4).out
    assert program("rate", path, 6).code == 2
    assert program("show", path, "--json").json["rating"] == 4


def test_what_is_forgotten_leaves_its_files_and_can_come_back(
    program: Program, folder: Path
) -> None:
    path = folder / "style.safetensors"
    program("tag", path, "+mine")
    (gone,) = program("forget", path, path, "--json").json["assets"]
    assert gone["tags"] == ["mine"]
    assert path.exists()
    assert program("list", "--json").json["total"] == 1
    assert program("scan", "--json", folder).json["added"] == 1
    assert program("show", path, "--json").json["tags"] == []


def test_an_unknown_asset_stops_forgetting_before_anything_is_lost(
    program: Program, folder: Path
) -> None:
    done = program("forget", folder / "style.safetensors", "#999")
    assert (done.code, len(done.errors)) == (1, 1)
    assert program("list", "--json").json["total"] == 2


def test_a_folder_that_is_gone_can_be_forgotten(program: Program, folder: Path) -> None:
    folder.rename(folder.with_name("renamed"))
    (error,) = program("scan", "--json").json["errors"]
    assert "assetmgr forget" in error["hint"]
    assert program("forget", folder, "#999").code == 1
    assert program("scan").code == 1
    done = program("forget", folder, "--json").json
    assert (done["folders"], done["assets"]) == ([str(folder)], [])
    assert program("scan").code == 0
    assert program("list", "--json").json["total"] == 0


def test_a_name_that_is_empty_does_not_mean_the_folder_one_is_in(
    program: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a variable of the shell that was never set."""
    monkeypatch.chdir(folder)
    assert program("forget", "").code == 1
    assert program("list", "--json").json["total"] == 2
    assert program("forget", ".", "--json").json["folders"] == [str(folder)]


def test_copies_are_grouped_and_hard_links_take_no_room(program: Program, folder: Path) -> None:
    first = folder / "style.safetensors"
    shutil.copy(first, folder / "z copy.safetensors")
    os.link(first, folder / "z link.safetensors")
    program("scan", folder)
    found = program("duplicates", "--json").json
    (group,) = found["groups"]
    nbytes = first.stat().st_size
    assert [Path(copy["path"]).name for copy in group["copies"]] == [
        "style.safetensors",
        "z copy.safetensors",
        "z link.safetensors",
    ]
    assert [copy["shares"] for copy in group["copies"]] == [False, False, True]
    assert found["reclaimable"] == group["reclaimable"] == nbytes
    assert [copy["link"] for copy in group["copies"]] == [None, None, "hard"]
    assert "(hard link)" in program("duplicates").out


def test_a_symbolic_link_is_told_from_the_file_that_it_leads_to(
    program: Program, folder: Path
) -> None:
    (folder / "a link.safetensors").symlink_to(folder / "style.safetensors")
    program("scan", folder)
    (group,) = program("duplicates", "--json").json["groups"]
    assert [(Path(copy["path"]).name, copy["link"]) for copy in group["copies"]] == [
        ("style.safetensors", None),
        ("a link.safetensors", "symbolic"),
    ]
    assert group["reclaimable"] == 0
    assert "a link.safetensors  (symbolic link)" in program("duplicates").out


def test_nothing_is_there_twice(program: Program, folder: Path) -> None:
    assert folder.exists()
    assert program("duplicates", "--json").json == {"groups": [], "reclaimable": 0, "errors": []}
    assert "0 groups" in program("duplicates").out


def test_the_same_tensors_in_other_containers_are_duplicates_by_weights(
    program: Program, models: Models, folder: Path
) -> None:
    os.link(models.checkpoint, folder / "a.safetensors")
    program("convert", models.checkpoint, "--to", "ckpt", "-o", folder / "b.ckpt")
    program("convert", models.checkpoint, "-o", folder / "half.safetensors", "--dtype", "bf16")
    program("scan", folder)
    assert program("duplicates", "--json").json["groups"] == []
    found = program("duplicates", "--by", "weights", "--json").json
    (group,) = found["groups"]
    assert [Path(copy["path"]).name for copy in group["copies"]] == ["a.safetensors", "b.ckpt"]
    sizes = sorted(copy["bytes"] for copy in group["copies"])
    assert found["reclaimable"] == sizes[0]
    assert program("show", folder / "b.ckpt", "--json").json["hashes"]["weights"] == group["key"]
    found = program("show", folder / "other.safetensors", "--json").json["hashes"]["weights"]
    assert found != group["key"]
    one, two = (
        {
            part["name"]: part["digest"]
            for part in program("show", folder / name, "--json").json["components"]
        }
        for name in ("a.safetensors", "b.ckpt")
    )
    assert one == two
    assert all(one.values())


def test_a_file_that_cannot_be_read_for_its_weights_is_named(
    program: Program, models: Models, folder: Path
) -> None:
    shutil.copy(models.checkpoint, folder / "a.safetensors")
    program("scan", folder)
    program("convert", models.checkpoint, "--to", "ckpt", "-o", folder / "c.ckpt")
    (folder / "c.ckpt").write_bytes(b"gone")
    done = program("duplicates", "--by", "weights", "--json")
    assert (done.code, len(done.json["errors"])) == (1, 1)
    assert done.json["errors"][0]["path"] == str(folder / "c.ckpt")
