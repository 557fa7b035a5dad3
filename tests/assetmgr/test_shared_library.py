"""The name of a machine, and what its file may hold."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from assetmgr.machine import find_machine, name_machine, needs_name
from assetmgr.workspace import Workspace
from converters.errors import BadValue, WriteFailed
from registry.library import Library


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "home" / "machine.toml"


def test_a_machine_is_named_once(place: Path) -> None:
    assert find_machine(place) == ""
    name = name_machine(place)
    assert re.fullmatch(r"[A-Za-z0-9-]+-[0-9a-f]{8}", name)
    assert name_machine(place) == find_machine(place) == name
    assert [entry.name for entry in place.parent.iterdir()] == ["machine.toml"]


def test_threads_and_processes_agree_on_the_name(place: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda _: name_machine(place), range(16)))
    assert len(names) == 1


def test_two_homes_are_two_machines(tmp_path: Path) -> None:
    assert name_machine(tmp_path / "a" / "m.toml") != name_machine(tmp_path / "b" / "m.toml")


@pytest.mark.parametrize("content", ["", "name = 5", 'name = ""', "name", "\x00"])
def test_a_file_without_a_name_is_refused(place: Path, content: str) -> None:
    place.parent.mkdir()
    place.write_text(content)
    with pytest.raises(BadValue) as refused:
        name_machine(place)
    assert refused.value.path == str(place)


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((BadValue, WriteFailed)):
        name_machine(tmp_path / "file" / "machine.toml")


@pytest.mark.parametrize(
    ("url", "needed"),
    [
        (None, False),
        ("sqlite:////x/library.db", False),
        ("postgresql+psycopg://u:p@h/d", True),
    ],
)
def test_only_a_library_on_a_server_needs_the_name(url: str | None, needed: bool) -> None:
    assert needs_name(url) is needed


def test_the_workspace_hands_the_name_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(Library, "open", lambda url, machine="": asked.append((url, machine)))
    workspace = Workspace.open()
    _ = workspace.library
    monkeypatch.setenv("ASSETMGR_DATABASE_URL", "postgresql+psycopg://h/d")
    shared = Workspace.open()
    _ = shared.library
    assert asked[0][1] == ""
    assert asked[1] == ("postgresql+psycopg://h/d", find_machine(shared.paths.machine))
    assert asked[1][1]
