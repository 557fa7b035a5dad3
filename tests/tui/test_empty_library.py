"""The first start, before anything was scanned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from textual import events

from assetmgr.operations.preferences import Preferences
from assetmgr.workspace import Workspace
from tui.screens.welcome import WelcomeScreen
from tui.testing import ScriptedCommands
from tui.widgets.details import Details
from tui.widgets.title_bar import TitleBar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Open


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    with Workspace.open() as workspace:
        yield workspace


@pytest.fixture(autouse=True)
def _welcomed(commands: ScriptedCommands) -> None:
    """It has been welcomed before."""
    commands.keep(Preferences(welcomed=True))


async def test_the_very_first_start_asks_for_a_folder(
    open_program: Open, commands: ScriptedCommands
) -> None:
    commands.keep(Preferences())
    async with open_program((80, 24)) as tui:
        await tui.until(lambda: isinstance(tui.app.screen, WelcomeScreen))
        assert "Which folder has yours?" in tui.text()
        await tui.press("escape")
        assert commands.preferences().welcomed


async def test_a_folder_typed_in_one_go_is_scanned_whole(
    open_program: Open, commands: ScriptedCommands
) -> None:
    commands.keep(Preferences())
    async with open_program((80, 24)) as tui:
        await tui.until(lambda: isinstance(tui.app.screen, WelcomeScreen))
        for letter in "~/my models":
            tui.app.post_message(events.Key(letter, letter))
        tui.app.post_message(events.Key("enter", None))
        await tui.until(lambda: tui.script.asked)
        assert tui.script.asked == [f"scan {Path.home() / 'my models'}"]


async def test_an_empty_library_says_what_to_do_next(open_program: Open) -> None:
    async with open_program((80, 24)) as tui:
        said = " ".join(" ".join(tui.lines()).split())
        assert "This library is empty." in said
        assert "assetmgr scan FOLDER" in said
        assert tui.app.screen.query_one(TitleBar).totals == "0 assets"


async def test_the_keys_for_an_asset_do_nothing_without_one(open_program: Open) -> None:
    async with open_program((80, 24)) as tui:
        await tui.press("j", "G", "p", "c", "t", "y", "enter", "x")
        assert tui.script.asked == []
        assert tui.app.screen.query_one(Details).asset is None
        assert tui.app.is_running
