"""A way through the program on the demo's real models, with nothing scripted."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from textual.widgets import Button, Input

import assetmgr.demo
from assetmgr.operations.scan import scan
from assetmgr.workspace import Workspace
from tui.app import AssetManagerApp
from tui.screens.form import FormScreen
from tui.testing import Script

if TYPE_CHECKING:
    from conftest import Driver

FAMILY = Path(assetmgr.demo.__file__).with_name("family")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """The small ones of the demo's models, as people name them."""
    folder = tmp_path / "models [demo]"
    folder.mkdir()
    for kind in ("lora", "embedding", "vae"):
        packed = (FAMILY / f"{kind}.safetensors.gz").read_bytes()
        (folder / f"{kind}.safetensors").write_bytes(gzip.decompress(packed))
    return folder


@pytest.fixture
def workspace(models: Path) -> Iterator[Workspace]:
    with Workspace.open() as workspace:
        scan(workspace, [str(models)])
        yield workspace


async def answered(tui: Driver, field: int, answer: str) -> None:
    """Answer a field of the form that opens, and wait until it knows what it would do."""
    await tui.until(lambda: isinstance(tui.app.screen, FormScreen))
    tui.app.screen.query_one(f"#field-{field}", Input).value = answer
    await tui.until(lambda: not tui.app.screen.query_one("#yes", Button).disabled)


async def test_a_user_looks_checks_converts_moves_and_takes_back(
    workspace: Workspace, models: Path, driver: type[Driver]
) -> None:
    app = AssetManagerApp(workspace)
    async with app.run_test(size=(120, 40)) as pilot:
        tui = driver(app, pilot, Script())
        await tui.opened()
        await tui.filter("kind:lora")
        await tui.press("enter", "i", "v")
        await tui.until(lambda: "Numbers of" in tui.text() and "mean" in tui.text())
        await tui.press("escape", "escape")
        await tui.press("V")
        await tui.until(lambda: "Check of lora: ok" in tui.toasts())
        await tui.press("c")
        await answered(tui, 5, str(models / "new"))
        await tui.press("ctrl+s")
        await tui.until((models / "new" / "lora.safetensors").exists)
        await tui.until(lambda: not app.queue.active)
        await tui.press("M")
        await answered(tui, 0, "renamed [1]")
        await tui.press("ctrl+s")
        await tui.until(lambda: not app.queue.active)
        assert list(models.rglob("renamed [[]1].safetensors"))
        await tui.press("u")
        await tui.until(lambda: not app.queue.active)
        assert not list(models.rglob("renamed*"))
        assert workspace.library.search("kind:lora").total
