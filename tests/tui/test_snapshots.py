"""How every screen looks: small, wide, and on a large monitor.

After a wanted change: `pytest tests/tui --snapshot-update`, and look at the new texts, or at the
pictures of `python -m docs.pictures`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.screen_text import ScreenText, screen_text
from syrupy.assertion import SnapshotAssertion
from textual.widgets import Input

from assetmgr.operations.installed import ModelFolder
from assetmgr.operations.preferences import Preferences
from assetmgr.workspace import Workspace
from tui.app import AssetManagerApp
from tui.bridge import Reading
from tui.screens.welcome import WelcomeScreen
from tui.testing import Script, ScriptedCommands

if TYPE_CHECKING:
    from conftest import Driver

SIZES = {"small": (80, 24), "large": (120, 40), "huge": (200, 60)}

Looks = Callable[..., Awaitable[None]]


@pytest.fixture
def looks(
    snapshot: SnapshotAssertion,
    workspace: Workspace,
    commands: ScriptedCommands,
    script: Script,
    driver: type[Driver],
) -> Looks:
    """Compares the screen after some keys, at every size, with the pictures kept of it."""
    pictures = snapshot.use_extension(ScreenText)

    async def compare(*keys: str) -> None:
        app = AssetManagerApp(workspace, commands)
        app.animation_level = "none"
        async with app.run_test(size=SIZES["small"]) as pilot:
            tui = driver(app, pilot, script)
            await tui.opened()
            for key in keys:
                await tui.press(key)
                if key == "p":  # before a screen shows what can be done with it
                    await tui.until(tui.script.halfway.is_set)
            if "p" not in keys:
                await tui.until(lambda: not app.queue.active)
            shown = {name: await picture(tui, size) for name, size in SIZES.items()}
        for name, text in shown.items():
            assert text == pictures(name=name)

    return compare


async def picture(tui: Driver, size: tuple[int, int]) -> str:
    """The screen at a size, once it stands still."""
    await tui.pilot.resize_terminal(*size)
    await tui.until(lambda: tui.app.screen._compositor.size == size)
    for line in tui.app.screen.query(Input):
        line.cursor_blink = False
    before, now = "", screen_text(tui.app)
    while now != before:
        await tui.rest()
        before, now = now, screen_text(tui.app)
    return now


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs whose clock stands."""
    monkeypatch.setattr(Reading, "rate", lambda *_: 4.0)
    monkeypatch.setattr(Reading, "left", lambda *_: 75.0)


SCREENS = {
    "the_library": (),
    "the_grid": ("T", "l"),
    "facets_and_marks": ("space", "j", "space", "f"),
    "the_details_in_full": ("j", "j", "enter"),
    "a_bad_filter": ("slash", *"wrong", "colon"),
    "the_tags": ("t",),
    "what_can_be_copied": ("Y",),
    "the_order": ("o",),
    "saved_searches": ("S",),
    "the_help": ("question_mark",),
    "the_palette": ("colon", *"merge"),
    "a_form_with_its_plan": ("c",),
    "what_is_forgotten": ("space", "space", "delete"),
    "the_inside_of_a_file": ("i", "right", "down", "right", "down", "v"),
    "the_numbers_of_tensors": ("i", "v"),
    "a_comparison": ("space", "space", "equals_sign"),
    "the_duplicates": ("d",),
    "the_hub": ("H", *"ink", "enter"),
    "the_settings": ("comma",),
}
"""What is to be seen after which keys."""


@pytest.mark.parametrize("screen", SCREENS)
async def test_screens_look_as_they_did(looks: Looks, screen: str) -> None:
    await looks(*SCREENS[screen])


@pytest.mark.usefixtures("still")
async def test_a_job_that_runs(looks: Looks) -> None:
    await looks("j", "j", "p")


@pytest.mark.usefixtures("still")
async def test_the_jobs(looks: Looks) -> None:
    await looks("p", "J")


@pytest.mark.parametrize("theme", ["assetmgr-light", "assetmgr-contrast"])
async def test_the_other_themes(looks: Looks, commands: ScriptedCommands, theme: str) -> None:
    commands.keep(Preferences(theme=theme, facets=True))
    await looks("j")


async def test_the_welcome(snapshot: SnapshotAssertion, driver: type[Driver]) -> None:
    folders = tuple(
        ModelFolder(program, Path(path), files)
        for program, path, files in (
            ("ComfyUI", "/home/me/[old] ComfyUI/models", 212),
            ("A1111", "/home/me/stable-diffusion-webui/models", 1),
        )
    )
    script, pictures = Script(installed=folders), snapshot.use_extension(ScreenText)
    with Workspace.open() as workspace:
        app = AssetManagerApp(workspace, ScriptedCommands(workspace, script))
        async with app.run_test(size=SIZES["small"]) as pilot:
            tui = driver(app, pilot, script)
            await tui.until(lambda: isinstance(app.screen, WelcomeScreen) and app.screen.is_mounted)
            shown = {name: await picture(tui, size) for name, size in SIZES.items()}
    for name, text in shown.items():
        assert text == pictures(name=name)
