"""`assetmgr link`: another program's folder view of the library."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cli_models
import pytest
from helpers.dying import KILLED, Dying

from assetmgr.operations import file_links
from assetmgr.operations.layouts import LAYOUTS
from assetmgr.operations.views.manifest import NAME
from assetmgr.paths import find_paths
from converters.hashing import FileHashes
from converters.identify import Kind
from converters.pickles.verdict import SAFE_NO_CODE
from registry.library import Library
from registry.records import Preview
from registry.scanning.scan_records import Content, ScannedFile

if TYPE_CHECKING:
    from conftest import Program

COMFY = ("link", "--layout", "comfyui")


@pytest.fixture
def source(program: Program, tmp_path: Path) -> Path:
    """A folder with a LoRA and a file of no kind, scanned."""
    folder = tmp_path / "mine"
    folder.mkdir()
    cli_models.lora(folder / "style.safetensors", text=False)
    cli_models.tiny(folder / "other.safetensors")
    program("scan", folder)
    return folder


@pytest.fixture
def comfy(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere" / "ComfyUI"


def _linked(view: Any) -> dict[str, str]:
    return {Path(link["path"]).name: link["as"] for link in view["linked"]}


def _library() -> Library:
    return Library.open(f"sqlite:///{find_paths().database.as_posix()}")


def test_an_asset_is_linked_into_the_folder_of_its_kind(
    program: Program, source: Path, comfy: Path
) -> None:
    done = program(*COMFY, comfy, "--json")
    assert done.code == 0
    place = comfy / "models" / "loras" / "style.safetensors"
    assert set(done.json) == {
        "layout", "directory", "linked", "removed", "kept", "skipped", "errors"
    }  # fmt: skip
    (link,) = done.json["linked"]
    assert link["path"] == str(place)
    assert link["target"] == str(source / "style.safetensors")
    assert link["as"] == "symlink"
    assert place.is_symlink()
    assert place.samefile(source / "style.safetensors")
    (skipped,) = done.json["skipped"]
    assert "does not use files of kind" in skipped["reason"]


def test_doing_it_again_changes_nothing(program: Program, source: Path, comfy: Path) -> None:
    program(*COMFY, comfy)
    before = (comfy / NAME).read_bytes()
    again = program(*COMFY, comfy, "--json").json
    assert (again["linked"], again["removed"], again["kept"]) == ([], [], 1)
    assert (comfy / NAME).read_bytes() == before


def test_links_of_assets_that_are_not_chosen_any_more_go(
    program: Program, source: Path, comfy: Path
) -> None:
    program(*COMFY, comfy)
    program("tag", source / "style.safetensors", "+old")
    view = program(*COMFY, comfy, "-tag:old", "--json").json
    assert view["removed"] == [str(comfy / "models" / "loras" / "style.safetensors")]
    assert not (comfy / "models").exists(), "folders that were made for it go, too"
    assert (source / "style.safetensors").exists()


def test_broken_and_lost_links_are_mended(program: Program, source: Path, comfy: Path) -> None:
    program(*COMFY, comfy)
    place = comfy / "models" / "loras" / "style.safetensors"
    (source / "style.safetensors").rename(source / "renamed.safetensors")
    program("scan", source)
    view = program(*COMFY, comfy, "--json").json
    assert view["removed"] == [str(place)]
    assert _linked(view) == {"renamed.safetensors": "symlink"}
    (comfy / "models" / "loras" / "renamed.safetensors").unlink()
    assert _linked(program(*COMFY, comfy, "--json").json) == {"renamed.safetensors": "symlink"}


def test_what_is_not_ours_is_never_touched_and_the_name_gets_a_number(
    program: Program, source: Path, comfy: Path
) -> None:
    theirs = comfy / "models" / "loras" / "Style.safetensors"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs")
    assert _linked(program(*COMFY, comfy, "--json").json) == {"style (2).safetensors": "symlink"}
    assert program(*COMFY, comfy, "--json").json["kept"] == 1, "and keeps it"
    program("link", "--remove", comfy)
    assert theirs.read_text() == "theirs"
    assert [path.name for path in theirs.parent.iterdir()] == ["Style.safetensors"]


def test_a_link_that_was_replaced_by_a_file_is_left_alone(
    program: Program, source: Path, comfy: Path
) -> None:
    program(*COMFY, comfy)
    place = comfy / "models" / "loras" / "style.safetensors"
    place.unlink()
    place.write_text("theirs now")
    view = program(*COMFY, comfy, "--json").json
    assert _linked(view) == {"style (2).safetensors": "symlink"}
    done = program("link", "--remove", comfy, "--json")
    assert place.read_text() == "theirs now"
    assert done.json["removed"] == [str(place.with_name("style (2).safetensors"))]


def test_remove_takes_all_of_ours_away_and_nothing_else(
    program: Program, source: Path, comfy: Path
) -> None:
    comfy.mkdir(parents=True)
    (comfy / "main.py").touch()
    program(*COMFY, comfy)
    done = program("link", "--remove", comfy, "--json")
    assert (done.code, len(done.json["removed"])) == (0, 1)
    assert [path.name for path in comfy.iterdir()] == ["main.py"]
    assert program("link", "--remove", comfy, "--json").json["removed"] == []


def test_a_dry_run_says_it_and_does_nothing(program: Program, source: Path, comfy: Path) -> None:
    view = program(*COMFY, comfy, "--dry-run", "--json").json
    assert [Path(link["path"]).name for link in view["linked"]] == ["style.safetensors"]
    assert not comfy.exists()
    program(*COMFY, comfy)
    assert program("link", "--remove", comfy, "--dry-run", "--json").json["removed"]
    assert (comfy / "models" / "loras" / "style.safetensors").exists()


@pytest.mark.parametrize("kind", ["hardlink", "copy"])
def test_other_ways_than_symbolic_links(
    kind: str, program: Program, source: Path, comfy: Path
) -> None:
    call = (*COMFY, comfy, "--as", kind, "--json")
    assert _linked(program(*call).json) == {"style.safetensors": kind}
    place, file = comfy / "models/loras/style.safetensors", source / "style.safetensors"
    assert not place.is_symlink()
    assert place.samefile(file) == (kind == "hardlink")
    assert place.read_bytes() == file.read_bytes()
    assert place.stat().st_mtime_ns == file.stat().st_mtime_ns
    assert program(*call).json["kept"] == 1
    assert _linked(program(*COMFY, comfy, "--as", "symlink", "--json").json)
    assert place.is_symlink(), "asked for in another way it is made anew"


@pytest.mark.parametrize("kind", ["hardlink", "copy"])
def test_the_last_of_a_files_bytes_is_never_removed(
    kind: str, program: Program, source: Path, comfy: Path
) -> None:
    program(*COMFY, comfy, "--as", kind)
    (source / "style.safetensors").unlink()
    program("scan", source)
    place = comfy / "models" / "loras" / "style.safetensors"
    for call in ((*COMFY, comfy), ("link", "--remove", comfy)):
        view = program(*call, "--json").json
        assert view["removed"] == []
        assert any("only one left" in item["reason"] for item in view["skipped"])
        assert place.exists()


def test_where_no_symbolic_link_can_be_made_the_next_way_is_taken_and_told(
    program: Program, source: Path, comfy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refused)
    assert _linked(program(*COMFY, comfy, "--json").json) == {"style.safetensors": "hardlink"}
    asked = program(*COMFY, comfy, "--as", "symlink", "--json")
    assert asked.code == 1
    (error,) = asked.json["errors"]
    assert (error["code"], "--as hardlink" in error["hint"]) == ("write_failed", True)
    monkeypatch.setattr(file_links, "hard_link", refused_as_write_failed)
    shutil.rmtree(comfy)
    assert _linked(program(*COMFY, comfy, "--json").json) == {"style.safetensors": "copy"}


def refused_as_write_failed(_source: Path, place: Path) -> None:
    raise file_links.WriteFailed("cross-device link", path=place)


def test_a_link_is_relative_where_both_ends_move_together(
    program: Program, source: Path, tmp_path: Path
) -> None:
    program(*COMFY, tmp_path / "ComfyUI")
    near = (tmp_path / "ComfyUI" / "models" / "loras" / "style.safetensors").readlink()
    assert near == Path("..", "..", "..", "mine", "style.safetensors")
    program(*COMFY, tmp_path / "deep" / "ComfyUI")
    far = (tmp_path / "deep" / "ComfyUI" / "models" / "loras" / "style.safetensors").readlink()
    assert far == source / "style.safetensors"


def test_links_that_a_scan_has_met_are_not_taken_for_files(
    program: Program, source: Path, comfy: Path
) -> None:
    program(*COMFY, comfy)
    program("scan", comfy)
    again = program(*COMFY, comfy, "--json").json
    assert (again["linked"], again["removed"], again["kept"]) == ([], [], 1)


def test_a_file_of_the_library_that_lies_in_the_folder_needs_no_link(
    program: Program, comfy: Path
) -> None:
    loras = comfy / "models" / "loras"
    loras.mkdir(parents=True)
    cli_models.lora(loras / "style.safetensors", text=False)
    program("scan", comfy)
    view = program(*COMFY, comfy, "--json").json
    assert view["linked"] == []
    assert [item["reason"] for item in view["skipped"]] == ["lies in that folder already"]


def test_a_link_of_the_users_own_needs_no_second_one(
    program: Program, source: Path, comfy: Path
) -> None:
    program(*COMFY, comfy)
    (comfy / NAME).unlink()
    view = program(*COMFY, comfy, "kind:lora", "--json").json
    assert view["linked"] == []
    assert view["skipped"][0]["reason"] == "is linked there already, not by us"


def test_equal_names_get_numbers_that_stay(program: Program, source: Path, comfy: Path) -> None:
    (source / "b").mkdir()
    cli_models.lora(source / "b" / "STYLE.safetensors")
    program("scan", source)
    first = program(*COMFY, comfy, "--json").json
    assert len({name.casefold() for name in _linked(first)}) == 2
    program("tag", source / "style.safetensors", "+a")
    program(*COMFY, comfy, "-tag:a")
    kept = {link["path"]: link["target"] for link in first["linked"]}
    place = next(path for path, target in kept.items() if target.endswith("STYLE.safetensors"))
    assert Path(place).samefile(source / "b" / "STYLE.safetensors")


@pytest.mark.skipif(os.name != "posix", reason="such names cannot be made there")
def test_names_are_made_ones_that_every_system_takes(
    program: Program, source: Path, comfy: Path
) -> None:
    (source / "style.safetensors").rename(source / "a:b?\n.safetensors")
    cli_models.lora(source / "con.safetensors")
    program("scan", source)
    names = set(_linked(program(*COMFY, comfy, "--json").json))
    assert names == {"a_b__.safetensors", "_con.safetensors"}


@pytest.mark.usefixtures("quick_probe")
def test_the_doctor_names_links_that_lead_nowhere(
    program: Program, source: Path, comfy: Path
) -> None:
    (comfy / "custom_nodes").mkdir(parents=True)
    program(*COMFY, comfy)
    program("scan", comfy)
    (source / "style.safetensors").unlink()
    done = program("doctor", "--json")
    (check,) = (check for check in done.json["checks"] if check["name"] == "links")
    assert not check["ok"]
    assert "style.safetensors" in check["detail"]
    (comfy / NAME).write_text("[")
    assert "is no list of links" in program("doctor").err


def test_a_program_is_given_only_the_endings_it_reads(
    program: Program, source: Path, comfy: Path
) -> None:
    (source / "style.safetensors").rename(source / "style.sft")
    program("scan", source)
    view = program("link", "--layout", "a1111", comfy, "kind:lora", "--json").json
    assert view["linked"] == []
    assert "reads no .sft files" in view["skipped"][0]["reason"]


def test_verified_pictures_lie_beside_the_links(
    program: Program, source: Path, comfy: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "render.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    with _library() as library:
        asset = library.find(str(source / "style.safetensors"))
        preview = Preview(str(picture), None, seed=1, prompt="", verdict="ok")
        library.record_preview(asset.id, preview)
    view = program(*COMFY, comfy, "--previews", "--json").json
    assert set(_linked(view)) == {"style.safetensors", "style.preview.png"}
    assert (comfy / "models" / "loras" / "style.preview.png").samefile(picture)
    assert program(*COMFY, comfy, "--previews", "--json").json["kept"] == 2
    assert len(program(*COMFY, comfy, "--json").json["removed"]) == 1


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A diffusers folder that the library knows as one asset."""
    folder = tmp_path / "mine" / "pipeline"
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    (folder / "unet" / "config.json").write_text('{"a": 1}')
    with _library() as library:
        library.record_file(_as_scanned(folder))
    return folder


def _as_scanned(folder: Path) -> ScannedFile:
    content = Content(
        kind="checkpoint",
        base="sd-1",
        variant=None,
        prediction="epsilon",
        algorithm=(),
        layout="diffusers",
        container="diffusers",
        rank=None,
        dtypes={},
        tensors=1,
        parameters=1,
        components=(),
        confidence=1.0,
        evidence=(),
        problems=(),
        trigger_words=(),
        metadata={},
        safety=SAFE_NO_CODE,
    )
    hashes = FileHashes("b" * 64, "a" * 64, "c" * 8, "d" * 8)
    return ScannedFile(str(folder), 10, 1, 1, hashes, None, content)


def test_a_diffusers_folder_is_linked_as_a_folder(
    program: Program, pipeline: Path, comfy: Path
) -> None:
    assert _linked(program(*COMFY, comfy, "--json").json) == {"pipeline": "symlink"}
    place = comfy / "models" / "diffusers" / "pipeline"
    assert place.is_symlink()
    assert (place / "unet" / "config.json").read_text() == '{"a": 1}'
    skipped = program("link", "--layout", "a1111", comfy, "--json").json["skipped"]
    assert skipped[0]["reason"] == "AUTOMATIC1111 does not use diffusers folders"
    assert pipeline.exists()
    assert not place.exists()


@pytest.mark.parametrize("kind", ["hardlink", "copy"])
def test_a_folder_that_cannot_be_linked_as_one_is_linked_file_by_file(
    kind: str, program: Program, pipeline: Path, comfy: Path
) -> None:
    call = (*COMFY, comfy, "--as", kind, "--json")
    assert _linked(program(*call).json) == {"model_index.json": kind, "config.json": kind}
    place = comfy / "models" / "diffusers" / "pipeline"
    assert place.joinpath("unet", "config.json").is_file()
    assert program(*call).json["kept"] == 2
    assert len(program("link", "--remove", comfy, "--json").json["removed"]) == 2
    assert list(comfy.iterdir()) == []
    assert (pipeline / "unet" / "config.json").exists()


def test_a_folder_linked_file_by_file_is_not_taken_for_another_place_of_its_asset(
    program: Program, pipeline: Path, comfy: Path
) -> None:
    call = (*COMFY, comfy, "--as", "hardlink", "--json")
    program(*call)
    with _library() as library:
        library.record_file(_as_scanned(comfy / "models" / "diffusers" / "pipeline"))
    again = program(*call).json
    assert (again["linked"], again["removed"], again["skipped"]) == ([], [], [])
    assert pipeline.exists()


def test_a_changed_file_in_a_copied_folder_is_left_alone(
    program: Program, pipeline: Path, comfy: Path
) -> None:
    program(*COMFY, comfy, "--as", "copy")
    edited = comfy / "models" / "diffusers" / "pipeline" / "unet" / "config.json"
    edited.write_text('{"a": 2}')
    view = program(*COMFY, comfy, "--as", "copy", "--json").json
    assert [item["reason"] for item in view["skipped"]] == ["was changed since it was linked"]
    program("link", "--remove", comfy)
    assert edited.read_text() == '{"a": 2}'
    assert not (edited.parents[1] / "model_index.json").exists()


def test_links_made_before_a_crash_are_still_known_as_ours(
    program: Program, source: Path, comfy: Path
) -> None:
    program(*COMFY, comfy)
    manifest = json.loads((comfy / NAME).read_text())
    manifest["links"][0] |= {"seen": None, "of": None}
    (comfy / NAME).write_text(json.dumps(manifest))
    again = program(*COMFY, comfy, "--json").json
    assert (again["linked"], again["kept"]) == ([], 1)
    assert len(program("link", "--remove", comfy, "--json").json["removed"]) == 1


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("step", "kind"),
    [
        ("views.make:write_manifest", "symlink"),
        ("file_links:symlink", "symlink"),
        ("file_links:hard_link", "hardlink"),
        ("file_links:copy", "copy"),
        ("views.make:_unlink", "symlink"),
        ("views.make:_remove_empty", "symlink"),
    ],
)
def test_a_kill_at_any_step_leaves_what_the_next_run_understands(
    step: str,
    kind: str,
    after: bool,
    program: Program,
    dying: Dying,
    source: Path,
    comfy: Path,
) -> None:
    making = [*COMFY, str(comfy), "--as", kind]
    removing = ["link", "--remove", str(comfy)]
    removes = step.startswith("views.make:_")
    if removes:
        program(*making)
    call = removing if removes else making
    assert dying.run(f"assetmgr.operations.{step}", call, after=after) == KILLED
    assert program(*making).code == 0
    names = [path.name for path in (comfy / "models" / "loras").iterdir()]
    assert names == ["style.safetensors"]
    assert program(*removing).code == 0
    assert list(comfy.iterdir()) == []
    assert (source / "style.safetensors").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"path": "../outside", "item": "../outside"},
        {"path": "/etc/passwd", "item": "/etc/passwd"},
        {"path": "a/../../b", "item": "a/../../b"},
        {"seen": [1, 2]},
        {"as": "magic"},
        {"asset": "1"},
        {"item": "elsewhere"},
    ],
)
def test_a_manifest_that_breaks_its_rules_is_refused(
    change: dict[str, object], program: Program, source: Path, comfy: Path
) -> None:
    program(*COMFY, comfy)
    manifest = json.loads((comfy / NAME).read_text())
    manifest["links"][0] |= change
    (comfy / NAME).write_text(json.dumps(manifest))
    for call in ((*COMFY, comfy), ("link", "--remove", comfy)):
        done = program(*call, "--json")
        assert done.code == 1
        assert [error["code"] for error in done.json["errors"]] == ["corrupt"]


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"version": 2}'])
def test_a_manifest_that_is_none_is_refused(text: str, program: Program, comfy: Path) -> None:
    comfy.mkdir(parents=True)
    (comfy / NAME).write_text(text)
    assert program("link", "--remove", comfy, "--json").json["errors"][0]["code"] == "corrupt"


@pytest.mark.parametrize(
    "call",
    [
        ("link", "somewhere"),
        ("link", "--layout", "paint", "somewhere"),
        ("link", "--remove", "somewhere", "kind:lora"),
        (*COMFY, "somewhere", "--nonsense"),
        (*COMFY, "somewhere", "colour:red"),
    ],
)
def test_a_wrong_call_is_refused(call: tuple[str, ...], program: Program) -> None:
    assert program(*call).code == 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_program_has_a_folder_for_checkpoints_and_loras(layout: str) -> None:
    row = LAYOUTS[layout]
    assert set(row.folders) <= set(Kind)
    for kind in (Kind.CHECKPOINT, Kind.LORA):
        folder = row.folder(kind, "sdxl", is_pipeline=False)
        assert folder is not None
        assert "{" not in folder
    assert row.folder(Kind.UNKNOWN, "unknown", is_pipeline=False) is None
    assert "{" not in (row.folder(Kind.CHECKPOINT, "sd-1", is_pipeline=True) or "")


def test_invokeai_sorts_by_family() -> None:
    row = LAYOUTS["invokeai"]
    assert row.folder("lora", "sdxl", is_pipeline=False) == "models/sdxl/lora"
    assert row.folder("checkpoint", "sd-1", is_pipeline=True) == "models/sd-1/main"
    assert row.folder("vae", "unknown", is_pipeline=False) == "models/any/vae"


@pytest.mark.parametrize(
    ("program", "folder"),
    [("comfyui", "models/vae_approx"), ("a1111", "models/VAE-approx"), ("sdnext", "models/VAE")],
)
def test_small_stand_ins_for_a_vae_lie_where_the_program_looks_for_them(
    program: str, folder: str
) -> None:
    row = LAYOUTS[program]
    assert row.folder("vae", "unknown", is_pipeline=False, variant="taesd") == folder


def test_stability_matrix_has_its_models_in_data_or_beside_it(tmp_path: Path) -> None:
    row = LAYOUTS["stabilitymatrix"]
    assert row.prefix(tmp_path) == "Data/Models"
    (tmp_path / "Models").mkdir()
    assert row.prefix(tmp_path) == "Models"
