"""A picture beside a model stands for it where there is no render, and says that it is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from assetmgr.workspace import Workspace
from registry.records import Asset, Preview
from registry.sidecars.record import Sidecar
from registry.tables.sidecar_rows import Found, Key, Stamp
from tui.commands import Commands
from tui.shown_picture import BESIDE, WHOSE, ShownPicture, shown_picture
from tui.widgets.half_cells import HalfCells
from tui.widgets.thumbnail import Thumbnail

if TYPE_CHECKING:
    from conftest import Driver, Open

Beside = Callable[[Asset], str]


@pytest.fixture
def beside(workspace: Workspace, tmp_path: Path) -> Beside:
    """Puts a blue picture beside a model."""

    def beside(asset: Asset) -> str:
        path = tmp_path / f"{asset.id}.preview.png"
        Image.new("RGB", (64, 64), "blue").save(path)
        told = Sidecar(path=str(path), owner="picture", preview=str(path))
        workspace.library.record_sidecars([Found(Key(asset.id, str(path)), Stamp(1, 1), told)])
        return str(path)

    return beside


@pytest.fixture
def rendered(workspace: Workspace) -> Asset:
    return next(asset for asset in workspace.library.assets() if asset.preview)


@pytest.fixture
def bare(workspace: Workspace) -> Asset:
    return next(asset for asset in workspace.library.assets() if not asset.preview)


def shown_of(workspace: Workspace, asset: Asset) -> ShownPicture | None:
    """What stands for an asset in the details; the grid has to agree."""
    (row,) = (row for row in workspace.library.search("").rows if row.id == asset.id)
    shown = shown_picture(workspace.library.get(asset.id))
    assert Commands(workspace).picture(row) == shown
    return shown


def with_render(workspace: Workspace, asset: Asset, **pictures: str | None) -> None:
    preview = asset.preview or Preview(None, None, 1, "", "ok")
    workspace.library.record_preview(asset.id, replace(preview, **pictures))


def test_it_stands_for_a_model_without_render(
    workspace: Workspace, bare: Asset, beside: Beside
) -> None:
    assert shown_of(workspace, bare) is None
    path = beside(bare)
    assert shown_of(workspace, bare) == ShownPicture(path, is_render=False)


def test_the_render_wins_and_is_kept_apart(
    workspace: Workspace, rendered: Asset, beside: Beside, tmp_path: Path
) -> None:
    path = beside(rendered)
    render = rendered.preview.path if rendered.preview else None
    assert render not in {None, path}
    assert shown_of(workspace, rendered) == ShownPicture(str(render), is_render=True)
    thumbnail = tmp_path / "thumbnail.webp"
    thumbnail.touch()
    with_render(workspace, rendered, thumbnail=str(thumbnail))
    assert shown_of(workspace, rendered) == ShownPicture(str(thumbnail), is_render=True)


@pytest.mark.parametrize("lost", [None, "/gone.png"])
def test_it_stands_for_a_render_that_has_no_picture(
    workspace: Workspace, rendered: Asset, beside: Beside, lost: str | None
) -> None:
    path = beside(rendered)
    with_render(workspace, rendered, path=lost, thumbnail=lost)
    assert shown_of(workspace, rendered) == ShownPicture(path, is_render=False)


def test_one_that_is_gone_stands_for_nothing(
    workspace: Workspace, bare: Asset, beside: Beside
) -> None:
    Path(beside(bare)).unlink()
    assert shown_of(workspace, bare) is None


def words(tui: Driver) -> str:
    sentence = tui.details.query_one("#no-picture")
    return str(sentence.render()) if sentence.display else ""


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_details_say_that_it_verifies_nothing(
    open_program: Open, workspace: Workspace, beside: Beside, size: tuple[int, int]
) -> None:
    for asset in workspace.library.assets():
        beside(asset)
    async with open_program(size) as tui:
        picture = tui.details.query_one(HalfCells)
        assert picture.display
        assert words(tui) == ""
        await tui.press("j")
        assert tui.list.current is not None
        assert tui.list.current.verdict is None
        assert picture.display
        assert words(tui) == WHOSE
        caption = tui.details.query_one("#no-picture").region
        assert caption.size == (len(BESIDE), 2)
        assert caption.y == picture.region.bottom
        assert tui.details.query_one(Thumbnail).region.contains_region(caption)
        await tui.press("k")
        assert words(tui) == ""


async def test_tiles_say_it_of_those_without_render_alone(
    open_program: Open, workspace: Workspace, beside: Beside
) -> None:
    assets = list(workspace.library.assets())
    for asset in assets:
        beside(asset)
    async with open_program((250, 60)) as tui:
        await tui.press("T")
        unverified = sum(asset.preview is None for asset in assets)
        assert 0 < unverified < len(assets)
        assert sum(line.count(BESIDE) for line in tui.lines()) == unverified
