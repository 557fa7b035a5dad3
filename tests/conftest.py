"""Fixtures every test shares: no test touches the user's home or the network."""

from __future__ import annotations

import gc
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

# On two shared cores OpenMP's spinning makes tiny tensors 20-50 times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# `tests/helpers` holds the builders of small model files that several test modules share.
sys.path.insert(0, str(Path(__file__).parent))

from helpers.examples import register_profiles

from registry.storage import engines

register_profiles()


def pytest_collection_finish() -> None:
    """What is imported by now stays: the garbage collector need not look at it ever again."""
    gc.collect()
    gc.freeze()


def pytest_make_parametrize_id(val: object) -> str | None:
    """The name of a case is what a report, every worker and the environment of children carry."""
    if isinstance(val, (str, bytes)) and len(val) > 100:
        return f"{val[:40]!r} and so on, {len(val)} in all"
    return None


_LONGEST = ("tests/test_benchmarks.py", "tests/sampler/", "tests/tui/", "tests/demo/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: where tests run side by side, none is left alone at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(_LONGEST))


@pytest.fixture(scope="session", autouse=True)
def _same_statements() -> Iterator[None]:
    """All libraries speak the same SQL, which is compiled once, and not for every library.

    A fourth of what tests with a library cost went there: compiled statements belong to an engine
    and its dialect, and nearly every test opens some engines.
    """
    made = engines.create_engine
    connected: dict[str, Engine] = {}

    def create_engine(*arguments: object, **options: object) -> Engine:
        engine = made(*arguments, **options)
        name = engine.dialect.name
        if first := connected.get(name):
            engine.dialect, engine._compiled_cache = first.dialect, first._compiled_cache
        else:
            event.listen(engine, "connect", lambda *_: connected.setdefault(name, engine))
        return engine

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(engines, "create_engine", create_engine)
        yield


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Numbered here: to find a free number, pytest looks through all folders there are."""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _own_home(_homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    home = next(_homes)
    home.mkdir()
    monkeypatch.setenv("ASSETMGR_HOME", str(home))
    for name in ("ASSETMGR_DATABASE_URL", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("TOKEN", "ENDPOINT", "HUB_OFFLINE"):
        monkeypatch.delenv(f"HF_{name}", raising=False)
    for name in ("TOKEN", "API_KEY", "API_TOKEN", "ENDPOINT"):
        monkeypatch.delenv(f"CIVITAI_{name}", raising=False)
    monkeypatch.setenv("HF_HOME", str(home / "huggingface"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
