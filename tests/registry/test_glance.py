"""Asking a library that is not open whether it lacks some bytes: yes only where that is sure."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry import glance
from registry.library import Library
from registry.scanning.scanner import scan_file

NOWHERE = "0" * 64


def test_only_bytes_that_no_asset_has_are_lacking(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights")
    database = tmp_path / "a library #1.db"
    with Library.open(f"sqlite:///{database}") as library:
        sha256 = scan_file(library, tmp_path / "model.bin").hashes["sha256"]
        assert glance.lacks(database, NOWHERE), "beside a program that has it open"
    assert not glance.lacks(database, sha256)
    assert glance.lacks(database, NOWHERE)
    assert {path.name for path in tmp_path.iterdir()} == {"model.bin", database.name}


@pytest.mark.parametrize("content", [None, b"", b"no database" * 100])
def test_what_is_no_library_is_for_those_to_judge_that_open_it(
    tmp_path: Path, content: bytes | None
) -> None:
    database = tmp_path / "library.db"
    if content is not None:
        database.write_bytes(content)
    assert not glance.lacks(database, NOWHERE)
    assert database.exists() == (content is not None)
