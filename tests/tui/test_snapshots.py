"""How the program looks.

After a wanted change: `pytest tests/tui --snapshot-update`, and look at the new pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from assetmgr.workspace import Workspace
from tui.app import AssetManagerApp
from tui.testing import Script, ScriptedCommands

if TYPE_CHECKING:
    from conftest import Driver

Compare = Callable[..., bool]
SMALL, LARGE = (80, 24), (120, 40)


@pytest.fixture
def looks(
    snap_compare: Compare,
    workspace: Workspace,
    commands: ScriptedCommands,
    script: Script,
    driver: type[Driver],
) -> Callable[..., bool]:
    """Compares the screen after some keys with the picture kept of it."""

    def compare(size: tuple[int, int], *keys: str) -> bool:
        app = AssetManagerApp(workspace, commands)
        app.animation_level = "none"

        async def before(pilot: Pilot[None]) -> None:
            tui = driver(app, pilot, script)
            await tui.opened()
            await tui.press(*keys)
            for line in app.screen.query(Input):
                line.cursor_blink = False
            if "p" in keys:
                await tui.until(tui.script.halfway.is_set)

        return snap_compare(app, terminal_size=size, run_before=before)

    return compare


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
def test_the_library(looks: Callable[..., bool], size: tuple[int, int]) -> None:
    assert looks(size)


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
def test_a_job_that_runs(looks: Callable[..., bool], size: tuple[int, int]) -> None:
    assert looks(size, "j", "j", "p")


def test_a_bad_filter(looks: Callable[..., bool]) -> None:
    assert looks(SMALL, "slash", *"wrong", "colon")


def test_the_plan_of_a_conversion(looks: Callable[..., bool]) -> None:
    assert looks(SMALL, "c")


def test_the_tags(looks: Callable[..., bool]) -> None:
    assert looks(SMALL, "t")


def test_the_help(looks: Callable[..., bool]) -> None:
    assert looks(LARGE, "question_mark")


def test_the_details_in_full(looks: Callable[..., bool]) -> None:
    assert looks(SMALL, "j", "j", "enter")
