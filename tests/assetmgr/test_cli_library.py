"""`scan`, `list`, `show` and `tag` on a folder of files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cli_models
import pytest
from safetensors.numpy import load_file, save_file

from registry.query.order import ORDERS

if TYPE_CHECKING:
    from conftest import Models, Program


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files, two of them of one content."""
    folder = tmp_path / "library"
    (folder / "copies").mkdir(parents=True)
    cli_models.lora(folder / "style.safetensors", text=False)
    cli_models.tiny(folder / "other.safetensors")
    shutil.copy(folder / "style.safetensors", folder / "copies" / "again.safetensors")
    return folder


def _assets(program: Program, *query: str) -> list[dict[str, Any]]:
    done = program("list", "--json", *query)
    assert done.code == 0
    found: list[dict[str, Any]] = done.json["assets"]
    return found


def test_content_is_apart_from_places(program: Program, folder: Path) -> None:
    assert program("scan", "--json", folder).json["added"] == 3
    assert len(_assets(program)) == 2
    (twice,) = _assets(program, "is:duplicate")
    assert len(twice["files"]) == 2
    assert program("scan", "--json").json["unchanged"] == 3, "without a path: all known folders"


def test_a_moved_file_keeps_its_tags(program: Program, folder: Path) -> None:
    program("scan", folder)
    program("tag", folder / "other.safetensors", "+mine")
    (folder / "other.safetensors").rename(folder / "copies" / "renamed.safetensors")
    assert program("scan", "--json").json["moved"] == 1
    (moved,) = _assets(program, "tag:mine")
    assert moved["files"][0]["path"] == str(folder / "copies" / "renamed.safetensors")


def test_a_deleted_file_is_missing_and_comes_back(program: Program, folder: Path) -> None:
    program("scan", folder)
    (folder / "other.safetensors").rename(folder.parent / "away")
    assert program("scan", "--json").json["missing"] == 1
    (gone,) = _assets(program, "is:missing")
    assert gone["files"][0]["state"] == "missing"
    assert "(missing)" in program("list", "is:missing").out
    (folder.parent / "away").rename(folder / "other.safetensors")
    assert program("scan", "--json").json["restored"] == 1


def test_a_folder_that_is_not_there_is_an_error_and_loses_nothing(
    program: Program, folder: Path, tmp_path: Path
) -> None:
    program("scan", folder)
    done = program("scan", "--json", tmp_path / "absent", folder)
    assert done.code == 1
    assert done.json["unchanged"] == 3
    (error,) = done.json["errors"]
    assert (error["path"], error["code"]) == (str(tmp_path / "absent"), "not_found")
    assert len(done.errors) == 1


def test_files_that_cannot_be_understood_are_listed_and_named(
    program: Program, folder: Path
) -> None:
    (folder / "broken.ckpt").write_bytes(b"PK\x03\x04 and no more")
    done = program("scan", "--json", folder)
    assert done.code == 1
    assert done.json["failed"] == 1
    (broken,) = _assets(program, "broken")
    assert broken["kind"] == "unknown"
    assert broken["problems"]


def test_words_with_a_leading_minus_reach_the_query(program: Program, folder: Path) -> None:
    program("scan", folder)
    program("tag", folder / "other.safetensors", "+hair")
    for query in (["-tag:hair"], ["--", "-tag:hair"], ["-hair"], ["-kind:unknown"], ["kind:lora"]):
        assert [asset["kind"] for asset in _assets(program, *query)] == ["lora"], query
    assert program("list", "--", "--nonsense").code == 2


def test_a_query_that_matches_nothing_says_what_would(program: Program, folder: Path) -> None:
    assert program("list", "kind:loras").err == "", "of an empty library nothing can be said"
    program("scan", folder)
    assert program("list", "kind:loras").err == (
        "hint: of kind:loras there is nothing, but of lora, unknown\n"
    )
    assert program("list", "library", "-tag:x").err == (
        "hint: words are not looked for in paths; path:library finds files and folders\n"
    )
    for silent in (["kind:lora", "tag:x"], ["kind:loras", "--quiet"], ["kind:loras", "--json"]):
        assert program("list", *silent).err == "", silent


def test_tags_are_added_and_removed_in_one_call(program: Program, folder: Path) -> None:
    program("scan", folder)
    first, second = (folder / f"{name}.safetensors" for name in ("other", "style"))
    done = program("tag", "--json", first, second, "+Hair", "+todo")
    assert set(done.json) == {"assets", "errors"}
    assert [asset["tags"] for asset in done.json["assets"]] == [["hair", "todo"]] * 2
    # `-hair` begins as `-h` does, and is a tag nevertheless.
    done = program("tag", first, "-hair", "+json", "--json")
    assert done.json["assets"][0]["tags"] == ["json", "todo"]
    assert "todo" in program("tag", first, "-json").out


def test_a_tag_for_an_unknown_asset_changes_nothing(program: Program, folder: Path) -> None:
    program("scan", folder)
    done = program("tag", folder / "other.safetensors", "no such asset", "+x")
    assert done.code == 1
    assert _assets(program, "tag:x") == []


def test_an_asset_is_named_by_path_number_hash_or_name(program: Program, folder: Path) -> None:
    program("scan", folder)
    (asset,) = _assets(program, "kind:lora")
    prefixes = [value[:8] for value in asset["hashes"].values() if value]
    for reference in (*prefixes, f"#{asset['id']}", asset["name"], asset["files"][0]["path"]):
        assert program("show", "--json", reference).json["id"] == asset["id"], reference


def test_an_ambiguous_name_lists_the_candidates(program: Program, folder: Path) -> None:
    (folder / "deeper").mkdir()
    cli_models.tiny(folder / "deeper" / "other.safetensors", "another")
    program("scan", folder)
    ids = [f"#{asset['id']}" for asset in _assets(program, "kind:unknown")]
    done = program("show", "--json", "other")
    assert done.code == 1
    (error,) = done.json["errors"]
    assert error["code"] == "ambiguous_asset"
    assert all(number in error["error"] for number in ids)
    assert "tag" not in program("tag", "other", "+x").out


def test_an_unknown_asset_is_named(program: Program) -> None:
    for reference in ("#99", "nothing", "abcdef12", "/no/such/file.ckpt", "#99999999999999999999"):
        done = program("show", reference)
        assert done.code == 1
        assert done.errors[0].startswith(f"error: {reference}: ")


def test_the_list_is_a_page_of_a_total(program: Program, folder: Path) -> None:
    program("scan", folder)
    done = program("list", "--json", "--limit", "1", "--offset", "1", "--sort", "name")
    assert (done.json["total"], len(done.json["assets"])) == (2, 1)
    assert "1 of 2" in program("list", "--limit", "1").out
    assert program("list", "--limit", "0").out == "0 of 2\n"


@pytest.mark.parametrize("name", ["a%20b", "50%", "a#b"] + ["a?b"] * (os.name == "posix"))
def test_the_library_lies_in_the_folder_of_that_very_name(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    home = tmp_path / "homes" / name
    monkeypatch.setenv("ASSETMGR_HOME", str(home))
    assert program("list").code == 0
    assert home.joinpath("library.db").is_file()
    assert [path.name for path in home.parent.iterdir()] == [name]


def test_the_help_of_list_names_every_order(program: Program) -> None:
    assert ", ".join(ORDERS) in " ".join(program("list", "--help").out.split())


def test_an_empty_library_is_an_empty_answer(program: Program) -> None:
    assert program("list").out == "0 of 0\n"
    assert program("list", "--json").json == {"total": 0, "assets": [], "errors": []}
    assert program("scan", "--json").json["roots"] == []


def test_show_tells_what_files_beside_a_model_say(program: Program, folder: Path) -> None:
    program("scan", folder)
    own = program("show", "--json", "other").json["hashes"]
    (folder / "other.metadata.json").write_text(
        json.dumps(
            {
                "model_name": "Fox\x1b[31m",
                "trainedWords": ["red fox"],
                "modelDescription": "<p>A fox</p><p>" + "long " * 100 + "</p>",
                "sha256": own["sha256"],
                "autov3": "0" * 64,
                "tags": "not a list",
            }
        )
    )
    done = program("scan")
    assert done.code == 0
    assert f"lora-manager claims autov3 {'0' * 64}" in done.err
    assert _assets(program, "is:contradicted")[0]["name"] == "other"
    (found,) = _assets(program, '"red fox"')
    (sidecar,) = found["sidecars"]
    assert (sidecar["owner"], sidecar["trigger_words"]) == ("lora-manager", ["red fox"])
    assert sidecar["claimed_hashes"] == {"sha256": own["sha256"], "autov3": "0" * 64}
    shown = program("show", "other").out
    assert "\x1b" not in shown
    assert f"sha256 {own['sha256']} (lora-manager, verified)" in shown
    assert "(lora-manager, not that of this file)" in shown
    assert "A fox long long" in shown
    assert "long " * 60 not in shown


def test_show_names_the_other_assets_with_the_same_components(
    program: Program, models: Models, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    tensors = load_file(models.checkpoint)
    changed = "first_stage_model.quant_conv.bias"
    save_file({**tensors, changed: tensors[changed] + 1}, folder / "other vae.safetensors")
    shutil.copy(models.checkpoint, folder / "first.safetensors")
    shutil.copy(models.pickled, folder / "old.ckpt")
    program("extract", "vae", models.checkpoint, "-o", folder / "vae.safetensors")
    program("scan", folder)
    shown = program("show", "first", "--json").json
    ids = {name: program("show", name, "--json").json["id"] for name in ("other vae", "old", "vae")}
    shared = {part["name"]: part["shared_with"] for part in shown["components"]}
    digests = {part["name"]: part["digest"] for part in shown["components"]}
    assert shared["unet"] == shared["text_encoder"] == sorted([ids["other vae"], ids["old"]])
    assert ids["other vae"] not in shared["vae"]
    (other,) = _assets(program, f"hash:{digests['unet'][:10]} -hash:{digests['vae'][:10]}")
    assert other["id"] == ids["other vae"]
    (line,) = (line for line in program("show", "first").out.splitlines() if " unet " in line)
    assert f" {digests['unet']}; the same in #" in line
    assert f"#{ids['other vae']} other vae" in line
