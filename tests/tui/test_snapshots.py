"""How the program looks.

After a wanted change: `pytest tests/tui --snapshot-update`, and look at the new pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from assetmgr.operations.preferences import Preferences
from assetmgr.workspace import Workspace
from tui.app import AssetManagerApp
from tui.bridge import Reading
from tui.testing import Script, ScriptedCommands

if TYPE_CHECKING:
    from conftest import Driver

Compare = Callable[..., bool]
SMALL, LARGE, HUGE = (80, 24), (120, 40), (200, 60)


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
            for key in keys:
                await tui.press(key)
            for line in app.screen.query(Input):
                line.cursor_blink = False
            if "p" in keys:
                await tui.until(tui.script.halfway.is_set)
            else:
                await tui.until(lambda: not app.queue.active)

        return snap_compare(app, terminal_size=size, run_before=before)

    return compare


SIZES = pytest.mark.parametrize("size", [SMALL, LARGE, HUGE], ids=["small", "large", "huge"])


@SIZES
def test_the_library(looks: Callable[..., bool], size: tuple[int, int]) -> None:
    assert looks(size)


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
def test_a_job_that_runs(looks: Callable[..., bool], size: tuple[int, int]) -> None:
    assert looks(size, "j", "j", "p")


def test_a_bad_filter(looks: Callable[..., bool]) -> None:
    assert looks(SMALL, "slash", *"wrong", "colon")


def test_the_tags(looks: Callable[..., bool]) -> None:
    assert looks(SMALL, "t")


def test_the_details_in_full(looks: Callable[..., bool]) -> None:
    assert looks(SMALL, "j", "j", "enter")


def test_the_help(looks: Callable[..., bool]) -> None:
    assert looks(LARGE, "question_mark")


@SIZES
def test_facets_and_marks(looks: Callable[..., bool], size: tuple[int, int]) -> None:
    assert looks(size, "space", "j", "space", "f")


@SIZES
def test_a_form_with_its_plan(looks: Callable[..., bool], size: tuple[int, int]) -> None:
    assert looks(size, "c")


@SIZES
def test_the_jobs(
    looks: Callable[..., bool], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reading, "rate", lambda *_: 4.0)
    monkeypatch.setattr(Reading, "left", lambda *_: 75.0)
    assert looks(size, "p", "J")


@SIZES
def test_the_inside_of_a_file(looks: Callable[..., bool], size: tuple[int, int]) -> None:
    assert looks(size, "i", "right", "down", "right")


@SIZES
def test_the_duplicates(looks: Callable[..., bool], size: tuple[int, int]) -> None:
    assert looks(size, "d")


@SIZES
def test_the_hub(looks: Callable[..., bool], size: tuple[int, int]) -> None:
    assert looks(size, "H", *"ink", "enter")


def test_the_settings(looks: Callable[..., bool]) -> None:
    assert looks(SMALL, "comma")


def test_saved_searches(looks: Callable[..., bool]) -> None:
    assert looks(SMALL, "S")


def test_what_can_be_copied(looks: Callable[..., bool]) -> None:
    assert looks(SMALL, "Y")


@pytest.mark.parametrize("theme", ["assetmgr-light", "assetmgr-contrast"])
def test_the_other_themes(
    looks: Callable[..., bool], commands: ScriptedCommands, theme: str
) -> None:
    commands.keep(Preferences(theme=theme, facets=True))
    assert looks(LARGE, "j")
