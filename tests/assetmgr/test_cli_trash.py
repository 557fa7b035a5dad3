"""`assetmgr trash`: files go, what is known of the assets stays."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import cli_models
import click
import pytest
import send2trash

if TYPE_CHECKING:
    from conftest import Done, Program

Trash = list[Path]


@pytest.fixture
def trash(monkeypatch: pytest.MonkeyPatch) -> Trash:
    """What was sent to a trash that deletes."""
    sent: Trash = []

    def send(path: Path) -> None:
        sent.append(path)
        path.unlink()

    monkeypatch.setattr(send2trash, "send2trash", send)
    return sent


@pytest.fixture
def folder(program: Program, tmp_path: Path) -> Path:
    """A model with things beside it, scanned."""
    folder = tmp_path / "library"
    folder.mkdir()
    cli_models.lora(folder / "style.safetensors", text=False)
    (folder / "style.json").write_text('{"notes": "mine"}')
    (folder / "style.preview.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "style.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "style-guide.txt").write_text("of something else")
    program("scan", folder)
    return folder


def test_the_file_goes_with_what_lies_beside_it_and_the_asset_stays_with_its_tags(
    program: Program, folder: Path, trash: Trash
) -> None:
    program("tag", folder / "style.safetensors", "+mine")
    done = program("trash", folder / "style.safetensors", "--json")
    (item,) = done.json["trashed"]
    assert set(item) == {"asset", "name", "path", "bytes", "sidecars", "permanent"}
    assert {Path(path).name for path in item["sidecars"]} == {
        "style.json", "style.preview.png", "style.png"
    }  # fmt: skip
    assert [path.name for path in folder.iterdir()] == ["style-guide.txt"]
    assert len(trash) == 4
    shown = program("show", "#1", "--json").json
    assert (shown["tags"], shown["files"][0]["state"]) == (["mine"], "missing")
    assert [sidecar["notes"] for sidecar in shown["sidecars"] if sidecar["notes"]] == ["mine"]


def test_a_dry_run_only_says_it(program: Program, folder: Path, trash: Trash) -> None:
    done = program("trash", "#1", "--dry-run", "--json")
    assert len(done.json["trashed"]) == 1
    assert trash == []
    assert program("show", "#1", "--json").json["files"][0]["state"] == "present"


def test_every_place_of_an_asset_goes(program: Program, folder: Path, trash: Trash) -> None:
    shutil.copy(folder / "style.safetensors", folder / "copy.safetensors")
    program("scan", folder)
    assert len(program("trash", "#1", "#1", "--json").json["trashed"]) == 2
    done = program("trash", "#1", "--json")
    assert (done.code, done.json["errors"][0]["code"]) == (1, "not_found")


def test_sidecars_that_another_model_has_too_stay(
    program: Program, folder: Path, trash: Trash
) -> None:
    cli_models.tiny(folder / "style.ckpt")
    (item,) = program("trash", "#1", "--json").json["trashed"]
    assert item["sidecars"] == []
    assert (folder / "style.json").exists()


def test_of_a_symbolic_link_the_link_goes(program: Program, tmp_path: Path, trash: Trash) -> None:
    target = cli_models.lora(tmp_path / "target.safetensors", text=False)
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "link.safetensors").symlink_to(target)
    program("scan", folder)
    for arguments in ((), ("--permanent",)):
        assert program("trash", "#1", *arguments).code == 0
        assert list(folder.iterdir()) == []
        assert target.exists()
        (folder / "link.safetensors").symlink_to(target)
        program("scan", folder)


def test_a_file_that_changed_since_it_was_scanned_stays(
    program: Program, folder: Path, trash: Trash
) -> None:
    (folder / "style.safetensors").write_bytes(b"new")
    done = program("trash", "#1", "--permanent", "--json")
    assert (done.code, done.json["trashed"]) == (1, [])
    assert done.json["errors"][0]["code"] == "source_changed"
    assert (folder / "style.safetensors").read_bytes() == b"new"


def test_permanent_deletes_without_the_trash(program: Program, folder: Path, trash: Trash) -> None:
    assert program("trash", "#1", "--permanent", "--json").json["trashed"][0]["permanent"]
    assert trash == []
    assert not (folder / "style.safetensors").exists()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (send2trash.TrashPermissionError("/mnt"), "its volume has no trash"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (OSError("odd"), "odd"),
    ],
)
def test_where_nothing_can_be_trashed_the_file_stays_and_the_hint_says_how_to_delete(
    error: OSError, told: str, program: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(_: Path) -> None:
        raise error

    monkeypatch.setattr(send2trash, "send2trash", send)
    done = program("trash", "#1", "--json")
    (failure,) = done.json["errors"]
    assert told in failure["error"]
    assert failure["hint"].startswith("--permanent")
    assert program("show", "#1", "--json").json["files"][0]["state"] == "present"


def test_the_folder_of_a_pipeline_goes_as_a_whole_unless_it_changed(
    program: Program, tmp_path: Path, trash: Trash
) -> None:
    pipeline = tmp_path / "library" / "pipeline"
    (pipeline / "vae").mkdir(parents=True)
    (pipeline / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    cli_models.tiny(pipeline / "vae" / "diffusion_pytorch_model.safetensors")
    program("scan", tmp_path / "library")
    added = pipeline / "vae" / "another.safetensors"
    added.write_bytes(b"new")
    assert program("trash", "#1", "--json").json["errors"][0]["code"] == "source_changed"
    added.unlink()
    program("scan", tmp_path / "library")
    assert program("trash", "#1", "--permanent").code == 0
    assert not pipeline.exists()


def test_the_cache_of_the_hub_is_left_to_its_own_program(
    program: Program, tmp_path: Path, trash: Trash
) -> None:
    snapshot = tmp_path / "models--org--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    cli_models.lora(snapshot / "style.safetensors", text=False)
    program("scan", tmp_path)
    done = program("trash", "#1", "--json")
    assert done.json["errors"][0]["hint"] == "use: hf cache rm"
    assert trash == []


@pytest.mark.parametrize("answer", ["n\n", "y\n", ""])
def test_a_person_at_a_terminal_is_asked_unless_they_said_yes(
    answer: str, program: Program, folder: Path, trash: Trash, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    asked: list[str] = []

    def confirm(text: str, *, abort: bool, err: bool) -> None:
        asked.append(text)
        if answer != "y\n":
            raise click.Abort

    monkeypatch.setattr(click, "confirm", confirm)
    done = program("trash", "#1", "--json")
    assert asked == ["Move to the trash: 1 files?"]
    assert (done.code, bool(trash)) == ((0, True) if answer == "y\n" else (130, False))
    if not trash:
        assert program("trash", "#1", "--yes", "--json").code == 0
        assert len(asked) == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the trash of freedesktop.org")
def test_the_trash_of_the_system_has_the_file_afterwards(
    process: Callable[..., Done], program: Program, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    home = {"HOME": str(tmp_path / "home"), "XDG_DATA_HOME": str(tmp_path / "home" / "data")}
    done = process("trash", "#1", "--json", env=home)
    assert done.code == 0, done.err
    found = {path.name for path in tmp_path.rglob("style.*") if "files" in path.parts}
    assert found >= {"style.safetensors", "style.json"}
    assert not os.path.lexists(folder / "style.safetensors")
