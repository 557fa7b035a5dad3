"""A way through the program on the demo's real models, with nothing scripted."""

from __future__ import annotations

import gzip
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from textual.widgets import Button, Input

import assetmgr.demo
from assetmgr.operations.scan import scan
from assetmgr.sampler.process.client import SamplerClient
from assetmgr.sampler.process.jobs import Parameters, RenderOutcome
from assetmgr.sampler.process.sheet_jobs import SheetJob, SheetOutcome
from assetmgr.workspace import Workspace
from converters.progress import Progress
from tui.commands import Commands
from tui.screens.compare import CompareScreen
from tui.screens.form import FormScreen, Options
from tui.screens.library import LibraryScreen
from tui.screens.picture import PictureScreen
from tui.screens.reading import ReadingScreen
from tui.widgets.half_cells import HalfCells
from tui.widgets.title_bar import TitleBar

if TYPE_CHECKING:
    from conftest import Driver, Open

FAMILY = Path(assetmgr.demo.__file__).with_name("family")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """The small ones of the demo's models, as people name them."""
    folder = tmp_path / "models [demo]"
    folder.mkdir()
    unpack(folder, "lora", "embedding", "vae")
    return folder


def unpack(folder: Path, *kinds: str) -> None:
    """Put models of the demo into a folder."""
    for kind in kinds:
        packed = (FAMILY / f"{kind}.safetensors.gz").read_bytes()
        (folder / f"{kind}.safetensors").write_bytes(gzip.decompress(packed))


@pytest.fixture
def workspace(models: Path) -> Iterator[Workspace]:
    with Workspace.open() as workspace:
        scan(workspace, [str(models)])
        yield workspace


@pytest.fixture
def commands(workspace: Workspace) -> Iterator[Commands]:
    """What the keys do, in place of a script."""
    commands = Commands(workspace)
    yield commands
    commands.close()


async def answered(tui: Driver, field: int, answer: str) -> None:
    """Answer a field of the form that opens, and wait until it knows what it would do."""
    await tui.until(lambda: isinstance(tui.app.screen, FormScreen))
    tui.app.screen.query_one(f"#field-{field}", Input).value = answer
    await sure(tui)


async def sure(tui: Driver) -> None:
    """Wait until the form knows what it would do."""
    await tui.until(lambda: isinstance(tui.app.screen, FormScreen))
    await tui.until(lambda: not tui.app.screen.query_one("#yes", Button).disabled)


async def test_a_user_looks_checks_converts_moves_and_takes_back(
    workspace: Workspace, models: Path, open_program: Open
) -> None:
    async with open_program((120, 40)) as tui:
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
        await tui.until(lambda: not tui.app.queue.active)
        await tui.press("M")
        await answered(tui, 0, "renamed [1]")
        await tui.press("ctrl+s")
        await tui.until(lambda: not tui.app.queue.active)
        assert list(models.rglob("renamed [[]1].safetensors"))
        await tui.press("u")
        await tui.until(lambda: not tui.app.queue.active)
        assert not list(models.rglob("renamed*"))
        assert workspace.library.search("kind:lora").total


@pytest.fixture
def trash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trash of the test's own folder."""
    send2trash = pytest.importorskip("send2trash.plat_other")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(send2trash, "HOMETRASH_B", os.fsencode(tmp_path / "data" / "Trash"))


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="the trash of freedesktop.org")
@pytest.mark.usefixtures("trash")
async def test_what_is_there_twice_is_linked_and_what_went_to_the_trash_comes_back(
    workspace: Workspace, models: Path, open_program: Open
) -> None:
    shutil.copy(models / "lora.safetensors", models / "copy of lora.safetensors")
    scan(workspace, [str(models)])
    async with open_program((120, 40)) as tui:
        await tui.press("d")
        await tui.until(lambda: "1 group" in str(tui.app.screen.query_one(TitleBar).render()))
        await tui.press("L")
        await sure(tui)
        await tui.press("ctrl+s")
        await tui.until(lambda: not tui.app.queue.active)
        assert (models / "lora.safetensors").samefile(models / "copy of lora.safetensors")
        await tui.press("escape")
        await tui.filter("kind:embedding")
        await tui.press("enter", "X")
        await sure(tui)
        await tui.press("ctrl+s")
        await tui.until(lambda: not tui.app.queue.active)
        assert not (models / "embedding.safetensors").exists()
        await tui.press("u")
        await tui.until(lambda: not tui.app.queue.active)
        assert (models / "embedding.safetensors").is_file()
        assert {job.state for job in tui.app.queue.jobs} == {"done"}


async def test_a_merge_is_made_explained_compared_and_taken_apart(
    workspace: Workspace, models: Path, open_program: Open
) -> None:
    unpack(models, "checkpoint")
    scan(workspace, [str(models)])
    async with open_program((120, 40)) as tui:
        await tui.filter("kind:lora")
        await tui.press("enter", "m")
        await answered(tui, 1, "0.8")
        assert "✓" in tui.text()  # that it fits
        await answered(tui, 5, str(models / "blend.safetensors"))
        await tui.press("ctrl+s")
        await tui.until(lambda: not tui.app.queue.active)

        await tui.filter("blend")
        await tui.press("enter", "w")
        await sure(tui)
        await tui.press("ctrl+s")
        await tui.until(lambda: isinstance(tui.app.screen, ReadingScreen))
        assert "checkpoint + 0.8 × " in tui.text()
        assert "assetmgr merge adapters" in tui.text()
        await tui.press("escape")

        await tui.filter("kind:checkpoint")
        await tui.press("enter", "g", "space", "space", "equals_sign")
        await tui.until(lambda: isinstance(tui.app.screen, CompareScreen))
        assert "has other values" in tui.text()
        await tui.press("escape", "e")
        await sure(tui)
        part = tui.app.screen.query_one("#field-0", Options)
        part.focus()
        await tui.press("right")
        assert part.value == "full"
        await answered(tui, 5, str(models / "difference.safetensors"))
        await tui.press("ctrl+s")
        await tui.until((models / "difference.safetensors").exists)
        await tui.until(lambda: not tui.app.queue.active)
        assert {job.state for job in tui.app.queue.jobs} == {"done"}
        await tui.press("J")
        (shown,) = (
            n for n, job in enumerate(reversed(tui.app.queue.jobs)) if "What was" in job.title
        )
        await tui.press(*["j"] * shown, "enter")  # the answer can be read again
        assert "checkpoint + 0.8 × " in tui.text()


async def test_a_sheet_of_renders_is_shown_as_large_as_the_terminal(
    workspace: Workspace,
    models: Path,
    open_program: Open,
    picture: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[SheetJob] = []

    def draw(_: SamplerClient, job: SheetJob, progress: Progress) -> SheetOutcome:
        asked.append(job)
        seen = Parameters("p", "", 1, 20, 7.0, "Euler", "64x64", 1.0, None, "cpu", "fp32")
        cell = RenderOutcome(None, None, (), 1.0, 0.5, None, seen)
        return SheetOutcome(str(picture), (cell,) * len(job.cells), None, 4.0)

    monkeypatch.setattr(SamplerClient, "draw", draw)
    unpack(models, "checkpoint")
    scan(workspace, [str(models)])
    async with open_program((120, 40)) as tui:
        await tui.filter("kind:lora")
        await tui.press("enter", "C")
        await answered(tui, 0, "a circle | [a] square")
        assert "6: 2 × 3" in tui.text()
        await tui.press("ctrl+s")
        await tui.until(lambda: isinstance(tui.app.screen, PictureScreen))
        await tui.until(lambda: tui.app.screen.query_one(HalfCells).image is not None)
        assert [cell.weight for cell in asked[0].cells] == [0.0, 0.5, 1.0] * 2
        assert str(picture) in tui.text()
        await tui.press("y")
        assert tui.app.clipboard == str(picture)
        await tui.press("escape")
        assert isinstance(tui.app.screen, LibraryScreen)
