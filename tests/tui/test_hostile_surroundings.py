"""Names and metadata that attack a screen, and a library that changes or is locked."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from helpers.waiting import PATIENCE
from rich.cells import cell_len
from textual.widgets import Static

import registry.storage.engines
import tui.listing
import tui.widgets.asset_list
import tui.widgets.browser
from assetmgr.workspace import Workspace
from converters.errors import NotAvailable
from registry.list_records import Page
from registry.records import Source
from tui.inside import LONGEST_DEPTH, Contents, Tensor, tree, visible
from tui.query import View
from tui.screens.hub import HubScreen
from tui.testing import ScriptedCommands, ScriptedInside
from tui.text import plain
from tui.widgets.line import Line
from tui.widgets.table import TableLines

if TYPE_CHECKING:
    from conftest import Open, Put

HOSTILE = (
    "[bold red]markup[/] [@click=app.quit]quit[/]",
    "\x1b]52;c;aGk=\x07\x1b[2J escapes \r\n\t",
    "\u202eright to left\u202c \u0627\u0644\u0646\u0645\u0648\u0630\u062c",
    "x" * 10_000,
    "e\u0301" * 300 + "\u200d\U0001f469\u200d\U0001f680",
    "\ufeff \u2028 \u2066",
)


@pytest.fixture
def hostile(workspace: Workspace, put: Put) -> Workspace:
    """The library with assets whose every text is hostile."""
    library = workspace.library
    for number, name in enumerate(HOSTILE, 100):
        put(name, number)
        library.tag([library.search(sort="-id", limit=1).rows[0].id], [name[:200]])
        asset_id = library.search(sort="-id", limit=1).rows[0].id
        library.note(asset_id, name)
        library.record_source(asset_id, Source(name, name, name, name, name))
    return workspace


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize("size", [(80, 24), (20, 5)])
async def test_hostile_texts_stay_in_their_lines_and_steer_nothing(
    open_program: Open, size: tuple[int, int]
) -> None:
    async with open_program(size) as tui:
        await tui.filter("size:>=1100b size:<2kb")
        await tui.press("enter")
        assert tui.list.count == len(HOSTILE)
        for number in range(len(HOSTILE)):
            width = tui.list.scrollable_content_region.width
            for line in tui.lines():
                assert cell_len(line) == width
                assert not set(line) & set("\x1b\x07\r\n\u202e\u2066\u2028")
            assert "\x1b" not in tui.facts()
            await tui.press("j") if number % 3 else await tui.press("space", "f")
        await tui.press("Y", "escape", "t", "escape", "N", "escape", "S", "plus", "escape")
        assert tui.app.is_running


ODD = "two\nlines \x1b[2J \u202e\udce9"
"""Of a file's name, as Linux permits it."""


async def test_what_a_line_to_type_in_begins_with_steers_nothing_and_comes_back_as_it_was(
    open_program: Open, workspace: Workspace
) -> None:
    async with open_program() as tui:
        await tui.press("N")
        await tui.answer(ODD[:-1])
        await tui.press("N")
        line = tui.app.screen.query_one(Line)
        assert line.value == plain(line.value) == plain(ODD[:-1])
        await tui.answer(f"{line.value}, more")
        assert workspace.library.get(1).note == f"{ODD[:-1]}, more"


async def test_paths_that_are_no_unicode_are_copied_as_they_read(open_program: Open) -> None:
    async with open_program() as tui:
        tui.app.copy_to_clipboard(f"/models/{ODD}")
        assert tui.app.clipboard == "/models/two\\nlines \\x1b[2J \\u202e\\xe9"
        assert tui.app.clipboard.isprintable()


def test_ten_thousand_dots_are_no_ten_thousand_branches() -> None:
    deep = Tensor("." * 10_000, "F16", (), 2)
    root = tree([deep, Tensor("", "F32", (1,), 4), deep])
    assert root.count == 3
    opened = {branch.path for _, branch in visible(root, set())}
    assert max(depth for depth, _ in visible(root, opened)) <= LONGEST_DEPTH


async def test_hostile_names_of_tensors_are_shown_as_they_are(
    open_program: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = tuple(Tensor(name, "F16", (2,), 4) for name in (*HOSTILE, "", "a..b"))
    hostile = Contents("[x]", "facts", tensors, dict.fromkeys(HOSTILE, HOSTILE[1]))
    monkeypatch.setattr(ScriptedInside, "contents", lambda *_: hostile)
    async with open_program() as tui:
        await tui.press("i")
        lines = tui.app.screen.query_one(TableLines)
        assert lines.count == len(tensors)
        for _ in tensors:
            await tui.press("l", "j")
        assert "\x1b" not in tui.text()
        await tui.press("M")
        assert "\x1b" not in tui.text()


async def test_an_asset_that_is_forgotten_elsewhere_is_an_error_and_not_the_end(
    open_program: Open, workspace: Workspace
) -> None:
    async with open_program() as tui:
        workspace.library.forget([2])
        await tui.press("j")
        assert any("there is no asset #2" in said for said in tui.toasts())
        await tui.press("4", "t", "i", "escape")
        assert tui.app.is_running


async def test_an_answer_that_is_not_here_any_more_is_an_error_and_not_the_end(
    open_program: Open, workspace: Workspace
) -> None:
    async with open_program() as tui:
        await tui.press("H", *"ink")
        await tui.press("enter")
        await tui.until(lambda: not tui.app.queue.active)
        workspace.library.forget([4])
        await tui.press("enter")
        assert any("there is no asset #4" in said for said in tui.toasts())
        assert isinstance(tui.app.screen, HubScreen)


async def test_settings_that_were_spoilt_meanwhile_are_an_error_and_not_the_end(
    open_program: Open, workspace: Workspace
) -> None:
    async with open_program() as tui:
        workspace.paths.config.write_text("images = [nonsense")
        await tui.press("comma")
        assert any("config.toml" in said for said in tui.toasts())


async def test_a_library_that_shrinks_under_the_list_is_read_again(
    open_program: Open, workspace: Workspace
) -> None:
    async with open_program() as tui:
        await tui.press("G")
        workspace.library.forget([3, 4, 5, 6, 7, 8, 9])
        tui.script.gate.set()
        await tui.press("r")
        await tui.until(tui.toasts)
        assert tui.names() == ["anything v5", "bad hands"]
        assert tui.list.current is not None


async def test_a_locked_library_is_an_error_and_not_the_end(
    open_program: Open, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.storage.engines, "BUSY_SECONDS", 0.05)
    locker = sqlite3.connect(workspace.paths.database, isolation_level=None)
    try:
        async with open_program() as tui:
            locker.execute("BEGIN IMMEDIATE")
            await tui.press("5")
            assert any("is locked by another program" in said for said in tui.toasts())
            await tui.press("j")
            assert tui.facts().startswith("bad hands")
            locker.execute("ROLLBACK")
            await tui.press("5")
            assert workspace.library.get(2).rating == 5
    finally:
        locker.close()


async def test_a_page_that_could_not_be_read_is_asked_for_again(
    open_program: Open, commands: ScriptedCommands, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (tui.listing, tui.widgets.browser, tui.widgets.asset_list):
        monkeypatch.setattr(module, "PAGE_ROWS", 5)
    read, failures = commands.page, [NotAvailable("is locked")]

    def page(view: View, offset: int, limit: int) -> Page:
        if failures:
            raise failures.pop()
        return read(view, offset, limit)

    monkeypatch.setattr(commands, "page", page)
    async with open_program() as program:
        await program.until(program.toasts)
        assert program.toasts() == ["is locked"]
        await program.press("G")
        assert program.names()[-4:] == [
            "pastel [bold]mix[red] \\x1b[31m",
            "smooth hyper",
            "vae mse",
            "麦橘写实 v7",
        ]


async def test_a_storm_of_resizes_leaves_the_screen_whole(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("f", "space")
        for width, height in ((1, 1), (200, 60), (10, 3), (80, 24), (300, 2), (2, 100), (100, 30)):
            await tui.pilot.resize_terminal(width, height)
            await tui.press("j")
        assert {cell_len(line) for line in tui.lines()} == {
            tui.list.scrollable_content_region.width
        }
        assert tui.list.size.height > 3


async def test_broken_preferences_are_as_none(open_program: Open, workspace: Workspace) -> None:
    workspace.paths.preferences.write_text('{"theme": 3, "sort": "-wrong", "searches": [1, {}]')
    async with open_program() as tui:
        assert tui.names()[0] == "anything v5"
    workspace.paths.preferences.write_text('{"theme": 3, "sort": "-wrong", "searches": [1, {}]}')
    async with open_program() as tui:
        assert tui.names()[0] == "anything v5"


async def test_a_remembered_filter_that_means_nothing_any_more_can_be_cleared(
    open_program: Open, workspace: Workspace, commands: ScriptedCommands
) -> None:
    commands.keep(replace(commands.preferences(), query="gone:x"))
    async with open_program() as tui:
        assert "gone" in str(tui.app.screen.query_one("#filter-error", Static).render())
        await tui.press("escape")
        assert len(tui.names()) == 9


def test_without_colours_the_program_says_the_same(workspace: Workspace) -> None:
    code = (
        "import asyncio, os\n"
        "from assetmgr.workspace import Workspace\n"
        "from tui.app import AssetManagerApp\n"
        "app = AssetManagerApp(Workspace.open())\n"
        "async def main():\n"
        "    async with app.run_test() as pilot:\n"
        "        await pilot.press('j', 'space', 'f', 'question_mark')\n"
        "        assert app.no_color and os.environ['NO_COLOR'] == '1'\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "NO_COLOR": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=PATIENCE)
