"""torch without the parts that merging never uses, and with them when somebody asks."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

from converters.lean_torch import import_torch_leanly

_JOB = """
import sys
from converters.devices import computing_on, own_process
own_process()
with computing_on("cpu"):
    import torch
    assert (torch.ones(2, 3) @ torch.ones(3, 2)).half().sum() == 12
    torch.linalg.svd(torch.eye(3))
assert not {"torch.export", "torch._meta_registrations"} & sys.modules.keys()

class Twice(torch.nn.Module):
    def forward(self, x):
        return 2 * x

exported = torch.export.export(Twice(), (torch.ones(2),))
assert torch.equal(exported.module()(torch.ones(2)), torch.full((2,), 2.0))
"""


@pytest.mark.parametrize(
    "version", ["2.12.1", "2.14.0", "2.13.0a0+git1234", "2.13.0rc1", "2.13", "12.13.0"]
)
def test_any_other_torch_is_imported_as_a_whole(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = _imported(monkeypatch, version, ModuleType("torch"))
    assert imported == [("torch", False)]


@pytest.mark.parametrize("version", ["2.13.0", "2.13.1+cu130"])
def test_where_torch_does_not_load_by_name_what_was_left_out_is_imported_at_once(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = _imported(monkeypatch, version, ModuleType("torch"))
    assert imported == [("torch", True), ("torch.export", False)]


def _imported(
    monkeypatch: pytest.MonkeyPatch, version: str, torch: ModuleType
) -> list[tuple[str, bool]]:
    """What is imported, and whether something stood for the exporter then."""
    found: list[tuple[str, bool]] = []

    def import_module(name: str) -> ModuleType:
        found.append((name, "torch.export" in sys.modules))
        return torch

    for name in [name for name in sys.modules if name.partition(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr("importlib.metadata.version", lambda _: version)
    monkeypatch.setattr("importlib.import_module", import_module)
    import_torch_leanly()
    return found


def test_what_was_left_out_of_torch_is_imported_when_it_is_asked_for() -> None:
    _succeeds(_JOB)


def _succeeds(job: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", job], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
