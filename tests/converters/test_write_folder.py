"""Folders that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from converters.errors import TargetExists, WriteFailed
from converters.writers.folder import AtomicFolder


def _fill(target: Path, content: str, *, overwrite: bool = False) -> None:
    with AtomicFolder(target, ("part",), overwrite=overwrite) as folder:
        (folder.path / "part").mkdir()
        (folder.path / "part" / "file").write_text(content)
        assert not (target / "part" / "file").exists() or overwrite
        folder.commit()


def _tree(top: Path) -> list[str]:
    return sorted(path.relative_to(top).as_posix() for path in top.rglob("*"))


def test_a_folder_appears_with_all_its_files(tmp_path: Path) -> None:
    _fill(tmp_path / "deep" / "model", "new")
    assert _tree(tmp_path) == ["deep", "deep/model", "deep/model/part", "deep/model/part/file"]


def test_nothing_is_left_when_the_work_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with AtomicFolder(tmp_path / "model", ("part",)) as folder:
            (folder.path / "file").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert _tree(tmp_path) == []


def test_without_commit_there_is_no_folder(tmp_path: Path) -> None:
    with AtomicFolder(tmp_path / "model", ("part",)) as folder:
        (folder.path / "file").touch()
    assert _tree(tmp_path) == []


def test_an_existing_folder_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    _fill(tmp_path / "model", "old")
    with pytest.raises(TargetExists):
        _fill(tmp_path / "model", "new")
    assert (tmp_path / "model" / "part" / "file").read_text() == "old"


def test_a_replaced_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    _fill(tmp_path / "model", "old")
    (tmp_path / "model" / "part" / "stale").touch()
    _fill(tmp_path / "model", "new", overwrite=True)
    assert _tree(tmp_path) == ["model", "model/part", "model/part/file"]
    assert (tmp_path / "model" / "part" / "file").read_text() == "new"


def test_a_folder_with_other_things_in_it_is_never_replaced(tmp_path: Path) -> None:
    _fill(tmp_path / "model", "old")
    (tmp_path / "model" / "mine.safetensors").write_text("the only one")
    with pytest.raises(TargetExists, match=r"other things: mine\.safetensors"):
        _fill(tmp_path / "model", "new", overwrite=True)
    assert (tmp_path / "model" / "part" / "file").read_text() == "old"
    assert (tmp_path / "model" / "mine.safetensors").read_text() == "the only one"


def test_a_file_is_never_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("a file")
    with pytest.raises(TargetExists):
        _fill(tmp_path / "model", "new", overwrite=True)
    assert (tmp_path / "model").read_text() == "a file"


def test_a_folder_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    with AtomicFolder(tmp_path / "model", ("part",)) as folder:
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "theirs").touch()
        with pytest.raises(TargetExists):
            folder.commit()
    assert _tree(tmp_path) == ["model", "model/theirs"]


def test_the_old_folder_returns_when_the_new_one_cannot_take_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(tmp_path / "model", "old")
    honest = Path.rename

    def refusing(self: Path, target: Path) -> Path:
        if (self / "part" / "file").read_text() == "new":
            raise PermissionError(13, "Permission denied")
        return honest(self, target)

    monkeypatch.setattr(Path, "rename", refusing)
    with pytest.raises(WriteFailed, match="Permission denied"):
        _fill(tmp_path / "model", "new", overwrite=True)
    assert (tmp_path / "model" / "part" / "file").read_text() == "old"
    assert _tree(tmp_path) == ["model", "model/part", "model/part/file"]
