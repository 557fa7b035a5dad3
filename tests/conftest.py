"""Fixtures every test shares: no test touches the user's home or the network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A machine that is busy with other things is slow, and nothing is wrong with the program then.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# On two shared cores OpenMP's spinning makes tiny tensors 20-50 times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# `tests/helpers` holds the builders of small model files that several test modules share.
sys.path.insert(0, str(Path(__file__).parent))


_LONGEST = ("tests/test_benchmarks.py", "tests/sampler/test_sampler_families.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: where tests run side by side, none is left alone at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(_LONGEST))


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("ASSETMGR_HOME", str(home))
    for name in ("ASSETMGR_DATABASE_URL", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("TOKEN", "ENDPOINT", "HUB_OFFLINE"):
        monkeypatch.delenv(f"HF_{name}", raising=False)
    for name in ("TOKEN", "API_KEY", "API_TOKEN", "ENDPOINT"):
        monkeypatch.delenv(f"CIVITAI_{name}", raising=False)
    monkeypatch.setenv("HF_HOME", str(home / "huggingface"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
