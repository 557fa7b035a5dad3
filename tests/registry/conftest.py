"""A library, and an empty folder for model files."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.library import Library

sys.path.insert(0, str(Path(__file__).parent))  # for `small_models`


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'state' / 'library.db'}"


@pytest.fixture(scope="session")
def new_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a library in which nothing was recorded yet."""
    path = tmp_path_factory.mktemp("new") / "library.db"
    Library.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def library(url: str, tmp_path: Path, new_library: Path) -> Iterator[Library]:
    (tmp_path / "state").mkdir()
    shutil.copy(new_library, tmp_path / "state" / "library.db")
    with Library.open(url) as opened:
        yield opened


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """An empty folder for model files."""
    folder = tmp_path / "models"
    folder.mkdir()
    return folder
