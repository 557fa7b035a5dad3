"""A library, and an empty folder for model files."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.library import Library

sys.path.insert(0, str(Path(__file__).parent))  # for `small_models` and `private_server`

from private_server import Server, running


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server of databases; skipped where PostgreSQL is not installed."""
    with running() as started:
        yield started


@pytest.fixture(scope="session")
def new_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a library in which nothing was recorded yet."""
    path = tmp_path_factory.mktemp("new") / "library.db"
    Library.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture(autouse=True)
def _what_is_broken_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.scanning.scanner.STILL_SECONDS", 0.01)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A library in which nothing was recorded yet, in each of the databases."""
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("server")
        return server.emptied()
    (tmp_path / "state").mkdir()
    new: Path = request.getfixturevalue("new_library")
    shutil.copy(new, tmp_path / "state" / "library.db")
    return f"sqlite:///{tmp_path / 'state' / 'library.db'}"


@pytest.fixture
def library(url: str) -> Iterator[Library]:
    with Library.open(url) as opened:
        yield opened


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """An empty folder for model files."""
    folder = tmp_path / "models"
    folder.mkdir()
    return folder
