"""`assetmgr config`: what the settings are, where from, and changing one."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from assetmgr.config import NAMES, SETTINGS
from assetmgr.paths import find_paths

if TYPE_CHECKING:
    from conftest import Program

PASSWORD = "s3cr:t"
URL = f"postgresql+psycopg://me:{PASSWORD}@x@host/db?password={PASSWORD}"


@pytest.fixture
def file() -> Path:
    path = find_paths().config
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def settings(program: Program, *words: str) -> dict[str, Mapping[str, object]]:
    document = json.loads(program("config", *words, "--json").out)
    assert document["errors"] == []
    return {each["name"]: each for each in document["settings"]}


def test_without_a_file_every_setting_has_its_default(program: Program, file: Path) -> None:
    found = settings(program)
    assert tuple(found) == NAMES
    assert {each["origin"] for each in found.values()} == {"default"}
    assert found["images"]["value"] == "auto"
    assert found["preview_base"]["value"] is None
    assert not file.exists()
    assert json.loads(program("config", "path", "--json").out) == {
        "path": str(file),
        "exists": False,
        "errors": [],
    }


def test_a_value_is_set_read_and_unset(program: Program, file: Path) -> None:
    done = program("config", "set", "preview_base", "a [red] base.safetensors")
    assert done.code == 0
    assert program("config", "get", "preview_base").out == "a [red] base.safetensors\n"
    assert settings(program, "get", "preview_base")["preview_base"]["origin"] == "file"
    assert "a [red] base.safetensors" in program("config").out
    assert settings(program, "unset", "preview_base")["preview_base"]["value"] is None
    assert program("config", "get", "preview_base").out == "\n"
    assert program("config", "path").out == f"{file}\n"


def test_comments_order_and_odd_forms_of_the_file_stay(program: Program, file: Path) -> None:
    before = "# mine\nimages = 'off'  # none\n\n# lines\npreview_base = '''\nimages = 1'''\n"
    file.write_text(before)
    assert program("config", "set", "images", "halfblock").code == 0
    assert file.read_text() == before.replace("'off'", '"halfblock"')
    assert program("config", "unset", "images").code == 0
    assert "preview_base = '''\nimages = 1'''\n" in file.read_text()
    assert "# mine" in file.read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("get", "colour"), f"unknown setting 'colour'; there are {', '.join(NAMES)}"),
        (("set", "colour", "red"), f"unknown setting 'colour'; there are {', '.join(NAMES)}"),
        (("unset", "colour"), "unknown setting 'colour'"),
        (("set", "images", "loud"), "images must be one of auto, graphics, halfblock, off"),
        (("set", "database_url", f"me:{PASSWORD}@host"), "database_url must be a database URL"),
        (("set", "preview_bases", "x"), "preview_bases is a table: name one of it"),
        (("set", "preview_bases.sd-99", "x"), "preview_bases has no 'sd-99'"),
        (("get", "images.x"), "unknown setting 'images.x'"),
        (("set", "images"), "Missing argument 'VALUE'"),
        (("gut",), "No such command 'gut'"),
    ],
)
def test_what_means_nothing_is_refused_and_changes_nothing(
    words: tuple[str, ...], told: str, program: Program, file: Path
) -> None:
    done = program("config", *words, "--json")
    assert done.code == 2
    assert told in json.loads(done.out)["errors"][0]["error"]
    assert PASSWORD not in done.out + done.err
    assert not file.exists()


def test_entries_of_a_table_are_settings_of_their_own(program: Program, file: Path) -> None:
    file.write_text("# mine\n[preview_bases]\nsd-1 = 'a'  # old\n")
    assert program("config", "set", "preview_bases.sdxl", "b").code == 0
    assert program("config", "set", "images", "off").code == 0
    found = settings(program)
    assert {name: each["value"] for name, each in found.items() if each["origin"] == "file"} == {
        "preview_bases.sd-1": "a",
        "preview_bases.sdxl": "b",
        "images": "off",
    }
    assert "sd-1 = 'a'  # old" in file.read_text()
    assert program("config", "get", "preview_bases.sdxl").out == "b\n"
    assert program("config", "get", "preview_bases.flux").out == "\n"
    assert set(settings(program, "get", "preview_bases")) == {
        "preview_bases.sd-1",
        "preview_bases.sdxl",
    }
    for entry in ("sd-1", "sdxl"):
        assert program("config", "unset", f"preview_bases.{entry}").code == 0
    assert settings(program)["preview_bases"]["origin"] == "default"
    assert "# mine" in file.read_text()


def test_a_number_needs_no_quotes(program: Program, file: Path) -> None:
    file.write_text("downloads_at_once = 5\n")
    assert program("config", "get", "downloads_at_once").out == "5\n"
    assert program("downloads", "list").code == 0
    for wrong in ("0", "5.0", "true"):
        file.write_text(f"downloads_at_once = {wrong}\n")
        assert program("downloads", "list").code == 2


@pytest.mark.parametrize(
    "text",
    [
        *("images = [", "colour = 'red'", "images = 3", "images = 'loud'"),
        *("preview_bases = 3", "preview_bases = {sd-1 = 3}", "preview_bases = {x = 'y'}"),
    ],
)
def test_a_file_that_makes_no_sense_is_named_and_left_alone(
    text: str, program: Program, file: Path
) -> None:
    file.write_text(text)
    for words in ("get",), ("set", "images", "off"), ("unset", "images"):
        done = program("config", *words)
        assert done.code == 2
        assert done.err.startswith(f"error: {file}: ")
    assert file.read_text() == text
    assert program("config", "path").code == 0


def test_the_environment_wins_and_that_is_said(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSETMGR_DATABASE_URL", "sqlite:////elsewhere.db")
    found = settings(program)["database_url"]
    assert (found["value"], found["origin"]) == ("sqlite:////elsewhere.db", "environment")
    done = program("config", "set", "database_url", "sqlite:////mine.db")
    assert done.code == 0
    assert "ASSETMGR_DATABASE_URL is set and wins over the file" in done.err


def test_a_password_is_kept_and_never_printed(program: Program, file: Path) -> None:
    printed = [
        program("config", "set", "database_url", URL),
        program("config", "get", "database_url"),
        program("config", "get", "--json"),
        program("config"),
    ]
    for done in printed:
        assert "postgresql+psycopg://me:***@host/db?password=***" in done.out
        assert PASSWORD not in done.out + done.err
    assert URL in file.read_text()


def test_a_value_that_is_no_unicode_is_one_error_line(program: Program) -> None:
    done = program("config", "set", "models", "/mnt/lat\udce9in")
    assert (done.code, done.errors) == (2, ["error: models is no text that the file can hold"])


@pytest.mark.skipif(os.name == "nt", reason="no modes")
def test_a_new_file_is_its_owners_alone_and_an_old_one_keeps_its_mode_and_its_link(
    program: Program, file: Path, tmp_path: Path
) -> None:
    program("config", "set", "images", "off")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = tmp_path / "dotfiles.toml"
    kept.write_text("")
    kept.chmod(0o640)
    file.unlink()
    file.symlink_to(kept)
    before = os.umask(0o077)
    program("config", "set", "images", "graphics")
    os.umask(before)
    assert file.is_symlink()
    assert kept.read_text() == 'images = "graphics"\n'
    assert stat.S_IMODE(kept.stat().st_mode) == 0o640


def test_every_setting_is_told_in_the_help(program: Program) -> None:
    shown = program("config", "--help").out
    assert all(setting.name in shown and setting.about for setting in SETTINGS)
