"""`export` and `import`: what was typed goes to another library, and nothing there is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cli_models
import pytest

from assetmgr.workspace import Workspace
from registry.scanning.looking import look_into

if TYPE_CHECKING:
    from conftest import Program


@pytest.fixture
def folder(program: Program, tmp_path: Path) -> Path:
    """Two files, scanned, with something typed on one."""
    folder = tmp_path / "library"
    folder.mkdir()
    cli_models.lora(folder / "style.safetensors", text=False)
    cli_models.tiny(folder / "other.safetensors")
    program("scan", folder)
    program("tag", folder / "style.safetensors", "+mine", "+ü b")
    program("note", folder / "style.safetensors", "best at 0.7\n<b>")
    program("rate", folder / "style.safetensors", 4)
    return folder


@pytest.fixture
def exported(program: Program, folder: Path, tmp_path: Path) -> Path:
    target = tmp_path / "mine.json"
    assert folder.exists()
    assert program("export", "-o", target).code == 0
    return target


def _typed(program: Program, path: Path) -> Any:
    shown = program("show", path, "--json").json
    return shown["tags"], shown["note"], shown["rating"]


def test_what_was_typed_is_on_the_same_content_in_another_library(
    program: Program, folder: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _typed(program, folder / "style.safetensors")
    document = program("export", "--json").json
    monkeypatch.setenv("ASSETMGR_HOME", str(tmp_path / "other home"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(folder / "style.safetensors", elsewhere / "renamed.safetensors")
    program("scan", elsewhere)
    done = program("import", exported, "--json").json
    assert done == {"changed": 1, "unchanged": 0, "unknown": []}
    assert _typed(program, elsewhere / "renamed.safetensors") == before
    again = program("export", "--json").json
    assert [{**each, "name": ""} for each in again["assets"]] == [
        {**each, "name": ""} for each in document["assets"]
    ]
    assert program("import", exported, "--json").json["unchanged"] == 1


def test_notes_and_ratings_that_are_there_stay_unless_told_otherwise(
    program: Program, folder: Path, exported: Path
) -> None:
    path = folder / "style.safetensors"
    program("note", path, "newer")
    program("rate", path, 1)
    program("tag", path, "-mine", "+extra")
    program("import", exported)
    assert _typed(program, path) == (["extra", "mine", "ü b"], "newer", 1)
    program("import", exported, "--overwrite")
    assert _typed(program, path) == (["extra", "mine", "ü b"], "best at 0.7\n<b>", 4)


def test_what_was_only_seen_until_now_is_read_for_the_export(
    program: Program, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scan that was stopped leaves files without hashes; something may be typed on them."""
    new, lost = folder / "new.safetensors", folder / "lost.safetensors"
    shutil.copy(folder / "style.safetensors", lost)
    cli_models.lora(new, text=True)
    with Workspace.open() as workspace:
        workspace.library.record_files([look_into(str(path)).scanned() for path in (new, lost)])
        for name in ("new", "lost"):
            workspace.library.note(workspace.library.find(name).id, name)
    lost.unlink()
    exported = program("export", "--json").json["assets"]
    assert [(each["name"], each["blake3"] is None) for each in exported] == [
        ("lost", True),
        ("new", False),
        ("style", False),
    ]
    monkeypatch.setenv("ASSETMGR_HOME", str(tmp_path / "other home"))
    program("scan", folder)
    (tmp_path / "mine.json").write_text(json.dumps({"version": 1, "assets": exported}))
    done = program("import", tmp_path / "mine.json", "--json").json
    assert done == {"changed": 2, "unchanged": 0, "unknown": ["lost"]}
    assert _typed(program, new)[1] == "new"


def test_content_that_is_not_here_is_named(program: Program, folder: Path, exported: Path) -> None:
    program("forget", folder / "style.safetensors")
    done = program("import", exported, "--json")
    assert (done.code, done.json["unknown"]) == (0, ["style"])
    assert "style is not in this library; scan" in done.err


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("", "is not JSON"),
        ("[]", "no export"),
        ('{"version": 2, "assets": []}', "no export"),
        ('{"version": 1, "assets": [{"name": "x"}]}', "entry that is none"),
        ('{"version": 1, "assets": [3]}', "entry that is none"),
    ],
)
def test_a_file_that_is_no_export_changes_nothing(
    content: str, cause: str, program: Program, folder: Path, tmp_path: Path
) -> None:
    before = _typed(program, folder / "style.safetensors")
    (tmp_path / "bad.json").write_text(content)
    done = program("import", tmp_path / "bad.json")
    assert done.code == 1
    assert cause in done.err or (not content and "empty" in done.err)
    assert _typed(program, folder / "style.safetensors") == before


def test_a_rating_out_of_range_in_an_export_changes_nothing(
    program: Program, folder: Path, exported: Path
) -> None:
    document = json.loads(exported.read_text("utf-8"))
    document["assets"][0] |= {"rating": 9, "tags": ["wrong"]}
    exported.write_text(json.dumps(document))
    assert program("import", exported).code == 1
    assert "wrong" not in _typed(program, folder / "style.safetensors")[0]
