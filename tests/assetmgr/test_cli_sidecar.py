"""`assetmgr sidecar write`: for other programs, beside models that stay as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import cli_models
import pytest

from assetmgr.cli.sidecar import PROGRAMS
from assetmgr.paths import find_paths
from registry.library import Library
from registry.records import Preview, Source
from registry.sidecars.writers import WRITERS

if TYPE_CHECKING:
    from conftest import Program

WRITE = ("sidecar", "write", "#1", "--json")
PNG = b"\x89PNG\r\n\x1a\n and a picture"


@pytest.fixture
def model(program: Program, tmp_path: Path) -> Path:
    """A LoRA of which something is known."""
    folder = tmp_path / "library"
    folder.mkdir()
    words = {"modelspec.trigger_phrase": "sks", "modelspec.title": "A style"}
    path = cli_models.lora(folder / "style.v1.safetensors", text=False, metadata=words)
    program("scan", folder)
    program("note", path, "best at 0.7")
    return path


def _library() -> Library:
    return Library.open(f"sqlite:///{find_paths().database.as_posix()}")


def _preview(tmp_path: Path, verdict: str = "ok") -> None:
    picture = tmp_path / "render.png"
    picture.write_bytes(PNG)
    with _library() as library:
        library.record_preview(1, Preview(str(picture), None, seed=1, prompt="", verdict=verdict))


def test_the_programs_of_the_command_are_those_of_the_table() -> None:
    assert tuple(WRITERS) == PROGRAMS


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_sidecar_is_written_read_by_the_library_and_says_the_same_twice(
    name: str, program: Program, model: Path
) -> None:
    before = model.stat()
    done = program(*WRITE, "--for", name)
    (entry,) = done.json
    path = model.with_name("style.v1" + WRITERS[name].ending)
    assert entry == {
        "asset": 1, "model": str(model), "path": str(path), "for": name, "state": "written"
    }  # fmt: skip
    shown = program("show", "#1", "--json").json
    assert [sidecar["path"] for sidecar in shown["sidecars"]] == [str(path)]
    assert program(*WRITE, "--for", name).json[0]["state"] == "unchanged"
    report = program("scan", "--json").json
    assert (report["unchanged"], report["updated"], report["bytes_hashed"]) == (1, 0, 0)
    assert model.stat() == before


def test_a_later_note_is_written_and_a_removed_one_goes(program: Program, model: Path) -> None:
    path = model.with_name("style.v1.json")
    program(*WRITE, "--for", "a1111")
    assert json.loads(path.read_text())["notes"] == "best at 0.7"
    program("note", "#1", "best at 0.9")
    assert program(*WRITE, "--for", "a1111").json[0]["state"] == "written"
    assert json.loads(path.read_text())["notes"] == "best at 0.9"
    program("note", "#1", "")
    program(*WRITE, "--for", "a1111")
    assert json.loads(path.read_text())["notes"] == ""


def test_a_sidecar_that_is_not_ours_stays_unless_told_and_then_keeps_its_keys(
    program: Program, model: Path
) -> None:
    path = model.with_name("style.v1.json")
    path.write_text('{"notes": "theirs", "vae": "mine.pt"}')
    done = program(*WRITE, "--for", "a1111")
    assert (done.code, done.json[0]["code"]) == (1, "target_exists")
    assert path.read_text() == '{"notes": "theirs", "vae": "mine.pt"}'
    assert program(*WRITE, "--for", "a1111", "--overwrite").json[0]["state"] == "written"
    document = json.loads(path.read_text())
    assert (document["notes"], document["vae"]) == ("best at 0.7", "mine.pt")


def test_a_sidecar_that_was_edited_since_is_not_ours_any_more(
    program: Program, model: Path
) -> None:
    path = model.with_name("style.v1.json")
    program(*WRITE, "--for", "a1111")
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "notes": "edited"}))
    assert program(*WRITE, "--for", "a1111").json[0]["code"] == "target_exists"
    assert json.loads(path.read_text())["notes"] == "edited"


@pytest.mark.parametrize("text", [b"", b"[1]", b"{", b"\xff\xfe\x00", b"[" * 50_000, b'{"a": NaN}'])
def test_a_broken_sidecar_is_not_ours(text: bytes, program: Program, model: Path) -> None:
    path = model.with_name("style.v1.json")
    path.write_bytes(text)
    done = program(*WRITE, "--for", "a1111")
    assert done.code == 1
    assert done.json[0]["code"] in {"target_exists", "corrupt"}
    assert path.read_bytes() == text


def test_what_other_sidecars_say_is_told_on(program: Program, model: Path) -> None:
    info = {
        "id": 345,
        "modelId": 12,
        "baseModel": "Pony",
        "trainedWords": ["score_9"],
        "description": "<p>From the site</p>",
        "model": {"name": "The site's style"},
    }
    model.with_name("style.v1.civitai.info").write_text(json.dumps(info))
    program("scan")
    program(*WRITE, "--for", "cm", "--for", "a1111")
    matrix = json.loads(model.with_name("style.v1.cm-info.json").read_text())
    assert (matrix["ModelId"], matrix["VersionId"], matrix["BaseModel"]) == (12, 345, "Pony")
    assert (matrix["ModelName"], matrix["TrainedWords"]) == ("The site's style", ["score_9"])
    web = json.loads(model.with_name("style.v1.json").read_text())
    assert (web["description"], web["activation text"]) == ("From the site", "score_9")
    assert web["sd version"] == "SD1", "what the tensors say"


def test_where_a_file_came_from_is_told_on(program: Program, model: Path) -> None:
    with _library() as library:
        library.record_source(1, Source("civitai", "12", "345", "style.safetensors", "https://x"))
    program(*WRITE, "--for", "civitai")
    document = json.loads(model.with_name("style.v1.civitai.info").read_text())
    assert (document["modelId"], document["id"], document["downloadUrl"]) == (12, 345, "https://x")


def test_the_verified_render_becomes_the_picture_beside_the_model(
    program: Program, model: Path, tmp_path: Path
) -> None:
    _preview(tmp_path)
    path = model.with_name("style.v1.preview.png")
    done = program(*WRITE, "--preview", "--for", "lora-manager")
    assert [entry["state"] for entry in done.json] == ["written", "written"]
    assert path.read_bytes() == PNG
    manager = json.loads(model.with_name("style.v1.metadata.json").read_text())
    assert manager["preview_url"] == path.as_posix()
    assert program(*WRITE, "--preview").json[0]["state"] == "unchanged"
    path.write_bytes(b"another picture")
    assert program(*WRITE, "--preview").json[0]["code"] == "target_exists"
    assert program(*WRITE, "--preview", "--overwrite").json[0]["state"] == "written"


@pytest.mark.parametrize("verdict", [None, "failed"])
def test_without_a_verified_render_there_is_no_picture(
    verdict: str | None, program: Program, model: Path, tmp_path: Path
) -> None:
    if verdict:
        _preview(tmp_path, verdict)
    done = program(*WRITE, "--preview")
    assert (done.code, done.json[0]["code"]) == (3, "not_available")


def test_a_dry_run_writes_nothing(program: Program, model: Path) -> None:
    (entry,) = program(*WRITE, "--for", "cm", "--dry-run").json
    assert entry["state"] is None
    assert [path.name for path in model.parent.iterdir()] == [model.name]


def test_asking_for_nothing_is_a_wrong_call(program: Program, model: Path) -> None:
    assert program("sidecar", "write", "#1").code == 2
    assert program("sidecar", "write", "#1", "--for", "paint").code == 2


def test_an_asset_that_is_not_there_is_one_failed_item(program: Program, model: Path) -> None:
    done = program("sidecar", "write", "#9", "#1", "--for", "cm", "--json")
    assert done.code == 1
    assert [entry["state"] for entry in done.json] == [None, "written"]
    model.unlink()
    assert program(*WRITE, "--for", "cm").json[0]["code"] == "not_found"
