"""What the shell offers at Tab."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.shell_completion import CompletionItem, ShellComplete

from assetmgr.cli.main import cli
from assetmgr.paths import find_paths

sys.path.insert(0, str(Path(__file__).parents[1] / "registry"))
from small_models import write_lora

if TYPE_CHECKING:
    from conftest import Done, Program

NAMES = ("ink wash [old]", "Ink plain", "détail", "odd\x1b[31m")


def offered(*words: str) -> list[CompletionItem]:
    shell = ShellComplete(cli, {}, "assetmgr", "_ASSETMGR_COMPLETE")
    return shell.get_completions(list(words[:-1]), words[-1])


def plain(*words: str) -> list[str]:
    return [item.value for item in offered(*words) if item.type == "plain"]


@pytest.fixture
def scanned(program: Program, tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        write_lora(tmp_path / "models" / f"{name}.safetensors", number)
    assert program("scan", tmp_path / "models").code == 0
    assert program("tag", "détail", "+style", "+sketch", "+wip").code == 0


@pytest.mark.usefixtures("scanned")
def test_names_of_assets_are_offered_whatever_their_case() -> None:
    for command in ("show", "note", "rate", "verify", "trash", "preview", "convert"):
        assert set(plain(command, "INK")) == {"ink wash [old]", "Ink plain"}
    assert plain("diff", "détail", "dé") == ["détail"]
    assert plain("show", "odd") == [], "no control character reaches the terminal"


@pytest.mark.usefixtures("scanned")
def test_a_path_is_completed_by_the_shell_alone() -> None:
    for beginning in ("", "./in", "~/in", "/in"):
        assert [item.type for item in offered("show", beginning)] == ["file"]
    assert [item.type for item in offered("inspect", "ink")] == ["file"]
    assert [item.type for item in offered("scan", "ink")] == ["dir"]


@pytest.mark.usefixtures("scanned")
def test_a_query_is_completed_by_filters_and_the_values_there_are() -> None:
    assert plain("list", "s") == ["size:", "safety:"]
    assert plain("list", "kind:") == plain("list", "ki") == ["kind:lora"]
    assert plain("list", "tag:s") == ["tag:sketch", "tag:style"]
    assert plain("list", "is:d") == ["is:duplicate"]
    assert plain("list", "size:") == plain("list", "colour:") == []
    assert plain("link", "--layout", "comfyui", "x", "kind:") == ["kind:lora"]


@pytest.mark.usefixtures("scanned")
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("kind", ":"), ["lora"]),
        (("kind", ":", "l"), ["lora"]),
        (("-tag", ":", "st"), ["style"]),
        (("ink", "tag", ":", "w"), ["wip"]),
        (("nothing", ":"), []),
    ],
)
def test_bash_takes_the_colon_for_a_word(words: tuple[str, ...], wanted: list[str]) -> None:
    assert plain("list", *words) == wanted


@pytest.mark.usefixtures("scanned")
def test_tags_are_offered_after_a_plus() -> None:
    assert plain("tag", "détail", "+s") == ["+sketch", "+style"]


def test_settings_and_their_values_are_offered() -> None:
    assert plain("config", "get", "pre") == ["preview_base", "preview_bases"]
    assert "preview_bases.sdxl" in plain("config", "get", "preview_bases.sd")
    assert plain("config", "set", "images", "") == ["auto", "graphics", "halfblock", "off"]
    assert plain("config", "set", "preview_base", "") == []


def test_a_library_that_is_not_there_is_not_made() -> None:
    find_paths().database.unlink(missing_ok=True)
    assert plain("show", "ink") == plain("list", "kind:") == []
    assert not find_paths().database.exists()


def test_a_library_that_is_broken_offers_nothing() -> None:
    find_paths().database.write_bytes(b"these were assets" * 100)
    assert plain("show", "ink") == plain("list", "tag:") == []


@pytest.mark.usefixtures("scanned")
def test_bash_reads_a_name_with_spaces_as_one_word(process: Callable[..., Done]) -> None:
    words = {"COMP_WORDS": "assetmgr show ink\\ w", "COMP_CWORD": "2"}
    done = process(env={"_ASSETMGR_COMPLETE": "bash_complete", **words})
    assert done.out.splitlines() == ["file,ink w", r"plain,ink\\ wash\\ \\[old\\]"]
