"""The library as a grid of thumbnails."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from assetmgr.workspace import Workspace
from converters.errors import AssetNotFound
from registry.list_records import AssetRow
from tui.testing import ScriptedCommands
from tui.widgets import tiles

if TYPE_CHECKING:
    from conftest import Driver, Open


def shown(tui: Driver) -> str:
    return "\n".join(tui.lines())


async def test_t_turns_the_list_into_tiles_and_back(open_program: Open) -> None:
    async with open_program((120, 40)) as tui:
        await tui.press("T")
        assert tui.list.shape.columns == tui.list.scrollable_content_region.width // tiles.WIDTH
        assert "▀" in shown(tui)  # the pictures have come
        assert "anything v5" in shown(tui)
        assert "lora sd-1" in shown(tui)
        await tui.press("T")
        assert tui.names()[0] == "anything v5"


async def test_the_cursor_goes_sideways_and_by_rows(open_program: Open) -> None:
    async with open_program((120, 40)) as tui:
        await tui.press("T")
        columns = tui.list.shape.columns
        await tui.press("l", "right", "h")
        assert tui.list.cursor == 1
        await tui.press("j")
        assert tui.list.cursor == 1 + columns
        await tui.press("space")
        assert tui.list.cursor == 2 + columns
        assert list(tui.list.marks) == [2 + columns]
        await tui.press("G")
        assert tui.list.current is not None
        assert tui.list.current.name == "麦橘写实 v7"
        await tui.press("g")
        assert tui.facts().startswith("anything v5")


async def test_a_click_hits_a_tile_and_a_second_one_opens_it(open_program: Open) -> None:
    async with open_program((120, 40)) as tui:
        await tui.press("T")
        await tui.pilot.click(tui.list, offset=(tiles.WIDTH + 3, 4), times=2)
        await tui.rest()
        assert tui.list.cursor == 1
        assert tui.app.screen.has_class("-reading")


async def test_the_grid_is_remembered(open_program: Open, commands: ScriptedCommands) -> None:
    async with open_program() as tui:
        await tui.press("T")
        assert tui.app.preferences.tiles
        commands.keep(tui.app.preferences)
    async with open_program() as tui:
        assert tui.list.tiled


async def test_a_picture_that_cannot_be_found_leaves_the_kind(
    open_program: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> str | None:
        raise AssetNotFound("there is no such asset")

    monkeypatch.setattr(ScriptedCommands, "picture", gone)
    async with open_program((120, 40)) as tui:
        await tui.press("T")
        assert "▀" not in shown(tui)
        assert "hypernetwork" in shown(tui)


async def test_only_pictures_in_sight_are_read(
    open_program: Open, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def found(_commands: ScriptedCommands, row: AssetRow) -> str | None:
        asked.append(row.id)
        return None

    monkeypatch.setattr(ScriptedCommands, "picture", found)
    async with open_program((60, 20)) as tui:
        await tui.press("T")
        assert 0 < len(asked) < 9
        assert len(set(asked)) == len(asked)
        await tui.press("G")
        assert 9 in asked


async def test_no_picture_is_read_while_other_tiles_come_into_sight(
    open_program: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    sights, asked = iter([[1], [2], [3]]), 0

    def sight() -> list[AssetRow]:
        nonlocal asked, rows
        asked, rows = asked + 1, next(sights, rows)
        return [row for row in every if row.id in rows]

    def found(row: AssetRow) -> None:
        read.append(row.id)

    rows: list[int] = []
    async with open_program() as tui:
        every = [row for n in range(9) if (row := tui.list._listing.row(n)) is not None]
        pictures = tiles.Pictures(tui.list, found, sight, lambda _: None)
        pictures.get(every[0])
        await tui.rest()
    assert read == [3]
    assert asked > 3


async def test_without_images_tiles_show_the_kind(open_program: Open, workspace: Workspace) -> None:
    workspace.settings = replace(workspace.settings, images="off")
    async with open_program((120, 40)) as tui:
        await tui.press("T")
        assert "▀" not in shown(tui)
        assert "hypernetwork" in shown(tui)


async def test_tiles_stand_a_storm_of_resizes(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("T")
        for width, height in ((1, 1), (200, 60), (10, 3), (2, 100), (100, 30)):
            await tui.pilot.resize_terminal(width, height)
            await tui.press("l")
        assert tui.app.is_running
        assert "▀" in shown(tui)
