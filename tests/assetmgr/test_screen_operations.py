"""What the screens need beside the commands: facets, memory, settings, folders, the way back."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from assetmgr.config import Settings
from assetmgr.operations.annotate import forget_assets
from assetmgr.operations.facets import facets, term_of
from assetmgr.operations.installed import find_model_folders
from assetmgr.operations.preferences import (
    Preferences,
    SavedSearch,
    keep_preferences,
    load_preferences,
)
from assetmgr.operations.remember import remember_asset
from assetmgr.operations.scan import scan
from assetmgr.operations.settings import change_setting
from assetmgr.operations.show_folder import show_folder
from assetmgr.workspace import Workspace
from converters.errors import BadValue, Cancelled, FileMissing, NotAvailable
from converters.progress import CancellableProgress
from registry.records import Preview, Source

sys.path.insert(0, str(Path(__file__).parents[1] / "registry"))
from small_models import write_lora


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    with Workspace.open() as workspace:
        yield workspace


@pytest.fixture
def scanned(workspace: Workspace, tmp_path: Path) -> Workspace:
    """A library of three LoRAs in two folders."""
    for number, name in enumerate(("a/ink", "a/wash", "b c/neon")):
        write_lora(tmp_path / f"{name}.safetensors", number)
    scan(workspace, [str(tmp_path / "a"), str(tmp_path / "b c")])
    return workspace


# ---- facets


def counts(workspace: Workspace, query: str = "") -> dict[str, dict[str, int]]:
    return {
        facet.name: {value.value: value.count for value in facet.values}
        for facet in facets(workspace, query)
    }


def test_facets_count_what_a_query_finds(scanned: Workspace, tmp_path: Path) -> None:
    scanned.library.tag([1, 2], ["line art"])
    found = counts(scanned)
    assert found["base"] == {"sd-1": 3}
    assert found["tag"] == {"line art": 2}
    assert found["verdict"] == {"none": 3}
    assert found["safety"] == {"safe": 3}
    assert found["folder"] == {str(tmp_path / "a"): 2, str(tmp_path / "b c"): 1}
    assert counts(scanned, "neon")["folder"] == {str(tmp_path / "b c"): 1}


def test_the_term_of_a_value_finds_as_many_as_were_counted(scanned: Workspace) -> None:
    scanned.library.tag([1, 3], ["line art"])
    for facet in facets(scanned):
        for value in facet.values:
            assert scanned.library.search(value.term).total == value.count


def test_values_that_a_query_cannot_hold_bare_are_quoted() -> None:
    assert term_of("tag", "line art") == 'tag:"line art"'
    assert term_of("tag", "ink") == "tag:ink"


def test_counting_can_be_cancelled_and_refuses_what_means_nothing(scanned: Workspace) -> None:
    progress = CancellableProgress()
    progress.cancel()
    with pytest.raises(Cancelled):
        facets(scanned, "", progress)
    with pytest.raises(BadValue):
        facets(scanned, "wrong:x")


# ---- preferences


def test_what_is_kept_comes_back(workspace: Workspace) -> None:
    kept = Preferences(theme="light", query='tag:"麦"', sort="-size", facets=True).with_search(
        SavedSearch("mine", "ink", "-added")
    )
    keep_preferences(workspace, kept)
    assert load_preferences(workspace) == kept


def test_a_search_of_the_same_name_is_replaced() -> None:
    first = Preferences().with_search(SavedSearch("mine", "a")).with_search(SavedSearch("b", "b"))
    again = first.with_search(SavedSearch("mine", "c"))
    assert [search.query for search in again.searches] == ["b", "c"]
    assert [search.name for search in again.without_search("mine").searches] == ["b"]
    with pytest.raises(BadValue, match="name"):
        first.with_search(SavedSearch("  ", "c"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"theme": 1, "sort": null, "row": -1, "asset": 1e9, "line": 99999999999, "facets": "yes"}',
        '{"searches": [1, null, {"name": "x"}, {"name": 1, "query": "y"}]}',
    ],
)
def test_broken_preferences_are_those_of_a_first_start(workspace: Workspace, text: str) -> None:
    workspace.paths.preferences.write_text(text)
    assert load_preferences(workspace) == Preferences()


def test_what_is_right_in_them_is_kept(workspace: Workspace) -> None:
    document = {"query": "ink", "other": 1, "searches": [{"name": "a", "query": "b"}, 3]}
    workspace.paths.preferences.write_text(json.dumps(document))
    found = load_preferences(workspace)
    assert (found.query, found.searches) == ("ink", (SavedSearch("a", "b"),))


# ---- settings


def test_a_setting_is_changed_in_place_of_the_old_one_and_the_rest_stays(
    workspace: Workspace,
) -> None:
    config = workspace.paths.config
    config.write_text('# mine\nimages = "off"\npreview_base = "#1"\n')
    settings = change_setting(workspace, "images", "halfblock")
    assert settings == Settings(preview_base="#1", images="halfblock") == workspace.settings
    assert "# mine" in config.read_text()
    assert config.read_text().count("images") == 1
    change_setting(workspace, "preview_base", 'a "quoted" \\ 麦 \x7f')
    assert workspace.settings.preview_base == 'a "quoted" \\ 麦 \x7f'
    assert change_setting(workspace, "preview_base", None).preview_base is None


def test_a_value_that_means_nothing_changes_nothing(workspace: Workspace) -> None:
    change_setting(workspace, "images", "off")
    before = workspace.paths.config.read_text()
    with pytest.raises(BadValue, match="images"):
        change_setting(workspace, "images", "wrong")
    with pytest.raises(BadValue, match="unknown setting"):
        change_setting(workspace, "colour", "red")
    assert workspace.paths.config.read_text() == before


def test_a_broken_file_is_named_and_left_alone(workspace: Workspace) -> None:
    workspace.paths.config.write_text("images = [")
    with pytest.raises(BadValue, match="TOML"):
        change_setting(workspace, "images", "off")
    assert workspace.paths.config.read_text() == "images = ["


# ---- folders of other programs


def test_folders_of_other_programs_are_found_once_and_counted(tmp_path: Path) -> None:
    write_lora(tmp_path / "ComfyUI" / "models" / "loras" / "ink.safetensors")
    write_lora(tmp_path / "ai" / "stable-diffusion-webui" / "models" / "Lora" / "a.safetensors")
    write_lora(tmp_path / "ai" / "stable-diffusion-webui" / "models" / "Lora" / "b.safetensors")
    (tmp_path / "Fooocus" / "models").mkdir(parents=True)
    (tmp_path / "models").symlink_to(tmp_path / "ComfyUI" / "models")
    found = find_model_folders(tmp_path, {})
    assert [(folder.program, folder.files) for folder in found] == [("ComfyUI", 1), ("A1111", 2)]


def test_a_cache_that_the_environment_names_is_looked_into(tmp_path: Path) -> None:
    write_lora(tmp_path / "cache" / "hub" / "x" / "model.safetensors")
    (folder,) = find_model_folders(tmp_path / "nobody", {"HF_HOME": str(tmp_path / "cache")})
    assert folder.program == "Hugging Face Hub"


# ---- the way back from forgetting


def test_a_forgotten_asset_comes_back_with_all_that_was_written_on_it(
    scanned: Workspace,
) -> None:
    library = scanned.library
    library.tag([1], ["red"])
    library.note(1, "mine")
    library.rate(1, 4)
    library.record_preview(1, Preview("/p.png", None, 7, "a prompt", "ok"))
    library.record_source(1, Source("civitai", "1", "2"))
    library.record_verification(1, integrity="ok")
    before = library.get(1)
    (gone,) = forget_assets(scanned, ["#1"])
    after = library.get(remember_asset(scanned, gone))
    for name in ("name", "hashes", "tags", "note", "rating", "preview", "sources", "verification"):
        assert getattr(after, name) == getattr(before, name)
    assert [file.path for file in after.files] == [file.path for file in before.files]


def test_a_file_that_changed_meanwhile_is_read_again(scanned: Workspace, tmp_path: Path) -> None:
    (gone,) = forget_assets(scanned, ["ink"])
    write_lora(tmp_path / "a" / "ink.safetensors", "other")
    after = scanned.library.get(remember_asset(scanned, gone))
    assert after.hashes["sha256"] != gone.hashes["sha256"]


def test_an_asset_without_files_cannot_come_back(scanned: Workspace, tmp_path: Path) -> None:
    (tmp_path / "a" / "ink.safetensors").unlink()
    scan(scanned, [str(tmp_path / "a")])
    (gone,) = forget_assets(scanned, ["ink"])
    with pytest.raises(FileMissing):
        remember_asset(scanned, gone)


# ---- the file manager


def test_without_a_display_there_is_no_file_manager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(NotAvailable):
        show_folder(str(tmp_path / "model.safetensors"))
    with pytest.raises(FileMissing):
        show_folder(str(tmp_path / "gone" / "model.safetensors"))
