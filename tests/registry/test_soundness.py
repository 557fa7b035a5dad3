"""Damage to a library that nobody would come across is found by who looks at all of it."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from small_models import scanned, write_lora

from registry.errors import LibraryUnusable
from registry.library import Library
from registry.scanning.scanner import scan
from registry.storage.health import examine
from registry.storage.soundness import looked_through


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, new_library: Path) -> Path:
    """A library of 60 assets, on two of which something was typed."""
    path = tmp_path_factory.mktemp("filled") / "library.db"
    shutil.copy(new_library, path)
    with Library.open(f"sqlite:///{path}") as library:
        library.record_files([scanned(number) for number in range(60)])
        library.tag([7], ["kept"])
        library.note(9, "mine")
    return path


@pytest.fixture
def path(tmp_path: Path, filled: Path) -> Path:
    return shutil.copy(filled, tmp_path / "library.db")


def damage(path: Path, name: str) -> None:
    """Overwrite the first page of a table or an index."""
    with closing(sqlite3.connect(path)) as database:
        wanted = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (page,) = database.execute(wanted, (name,)).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 4096)


@pytest.mark.parametrize("name", ["root", "tag", "asset_words_data", "ix_asset_by_name", "preview"])
def test_damage_that_was_in_nobodys_way_is_told_in_the_end(path, name):
    damage(path, name)
    with (
        Library.open(f"sqlite:///{path}") as library,
        pytest.raises(LibraryUnusable, match="corrupt") as refused,
        library.looked_through(),
    ):
        pass
    assert refused.value.path == str(path)
    assert "export" in str(refused.value.hint)


def test_a_sound_library_is_looked_through_while_it_is_written(path, models):
    write_lora(models / "a.safetensors")
    with Library.open(f"sqlite:///{path}") as library:
        with library.looked_through():
            scan(library, [models])
        assert library.find("a").path


def test_a_failure_meanwhile_is_not_hidden_by_damage(path):
    damage(path, "tag")
    with (
        Library.open(f"sqlite:///{path}") as library,
        pytest.raises(ZeroDivisionError),
        library.looked_through(),
    ):
        raise ZeroDivisionError


def test_a_library_in_memory_has_no_pages_to_look_at():
    with Library.open("sqlite://") as library, library.looked_through():
        assert library.search().total == 0


def test_what_was_typed_is_read_without_indexes(path):
    damage(path, "ix_asset_by_name")
    damage(path, "ix_asset_by_id")
    with Library.open(f"sqlite:///{path}") as library:
        found = {each.asset_id: (each.tags, each.note) for each in library.typed()}
    assert found == {7: (("kept",), None), 9: ((), "mine")}


def test_nothing_left_of_a_library_with_backups_is_no_new_library(path):
    shutil.copy(path, path.with_name("library.db.backup-0001"))
    path.write_bytes(b"")
    with pytest.raises(LibraryUnusable, match="content is lost") as refused:
        Library.open(f"sqlite:///{path}")
    assert "library.db.backup-0001" in str(refused.value.hint)
    assert "content is lost" in examine(f"sqlite:///{path}").problems[0]
    assert path.read_bytes() == b""


def test_an_empty_file_without_backups_is_a_library_that_was_never_made(tmp_path: Path) -> None:
    """As `touch` leaves one, or a first start that was killed or met a full disk."""
    path = tmp_path / "library.db"
    path.touch()
    with Library.open(f"sqlite:///{path}") as library:
        assert library.search().total == 0


def test_a_library_that_is_gone_cannot_be_looked_through(tmp_path: Path) -> None:
    with pytest.raises(LibraryUnusable, match="cannot be opened"), looked_through(tmp_path / "no"):
        pass
