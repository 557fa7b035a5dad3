"""Jobs, duplicates, the inside of a file, comparing, the hub, settings, the first start."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import partialmethod
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.waiting import until
from textual.pilot import Pilot
from textual.widgets import Input, Static
from textual.widgets._footer import FooterKey

from assetmgr.operations.installed import ModelFolder
from assetmgr.operations.preferences import load_preferences
from assetmgr.workspace import Workspace
from converters.errors import NotAvailable
from registry.downloads.records import DownloadState, QueuedDownload, Trouble, Wanted
from tui.app import AssetManagerApp, run_tui
from tui.listing import PAGE_ROWS
from tui.screens.compare import CompareScreen
from tui.screens.duplicates import DuplicatesScreen
from tui.screens.form import Options
from tui.screens.hub import HubScreen
from tui.screens.inside import InsideScreen
from tui.screens.jobs import JobsScreen
from tui.screens.welcome import WelcomeScreen
from tui.testing import Script, ScriptedCommands
from tui.widgets.asset_list import AssetList
from tui.widgets.filter_bar import FilterInput
from tui.widgets.table import TableLines

if TYPE_CHECKING:
    from conftest import Open, Put


async def test_the_jobs_are_paused_and_stopped(open_program: Open) -> None:
    async with open_program((120, 40)) as tui:
        await tui.press("p")
        await tui.until(tui.script.halfway.is_set)
        await tui.press("J")
        assert isinstance(tui.app.screen, JobsScreen)
        assert "2 / 4 steps" in tui.text()
        await tui.press("z")
        assert "paused" in tui.text()
        await tui.press("z")
        assert "running" in tui.text()
        await tui.press("z", "x")
        await tui.until(tui.toasts)
        assert "stopped" in tui.text()
        await tui.press("C")
        assert "Nothing was done yet." in tui.text()
        await tui.press("escape")
        assert tui.app.focused is tui.list


async def test_the_screen_of_jobs_offers_only_keys_that_do_something(open_program: Open) -> None:
    async with open_program((120, 40)) as tui:

        def offered() -> str:
            return "".join(key.key_display for key in tui.app.screen.query(FooterKey))

        await tui.press("J")
        await tui.until(lambda: offered() == "Esc")
        await tui.press("escape", "p")
        await tui.until(tui.script.halfway.is_set)
        await tui.press("J")
        await tui.until(lambda: offered() == "xzyEsc")
        await tui.press("x")
        await tui.until(lambda: offered() == "aCyEsc")
        await tui.press("C")
        await tui.until(lambda: offered() == "Esc")


async def test_a_fault_of_ours_is_an_entry_with_its_place_and_not_the_end(
    open_program: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> str:
        raise ZeroDivisionError("by [zero]")

    monkeypatch.setattr(ScriptedCommands, "verify", broken)
    async with open_program((120, 40)) as tui:
        await tui.press("V")
        await tui.until(tui.toasts)
        await tui.press("J")
        assert "ZeroDivisionError: by [zero]" in tui.text()
        # Where it happened; the line with the file's name is broken as long as the path is.
        assert "in broken" in " ".join(tui.text().split())
        assert tui.app.is_running


async def test_duplicates_lead_to_the_library(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("d")
        await tui.until(lambda: not tui.app.queue.active)
        assert isinstance(tui.app.screen, DuplicatesScreen)
        assert "1 group, 37.9 MB to be freed" in str(tui.app.screen.query_one("TitleBar").render())
        assert "/backup/[old]/ink wash" in tui.text()
        await tui.press("b")
        await tui.until(lambda: not tui.app.queue.active)
        assert tui.script.asked == ["duplicates by file", "duplicates by weights"]
        await tui.press("j", "enter")
        assert tui.names() == ["ink wash"]


async def test_a_tree_of_tensors_unfolds_and_is_searched(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("i")
        assert isinstance(tui.app.screen, InsideScreen)
        lines = tui.app.screen.query_one(TableLines)
        assert [row.cells[0].text for row in lines.rows] == ["▸ unet", "  logit_scale"]
        await tui.press("l", "j", "l")
        assert len(lines.rows) == 6
        assert "320×4" in tui.text()
        await tui.press("j", "h", "h", "k", "enter")
        assert len(lines.rows) == 2
        await tui.press("slash", *"bias")
        assert [row.cells[0].text for row in lines.rows] == [
            "unet.block_0.bias",
            "unet.block_1.bias",
        ]
        await tui.press("enter", "y")
        assert tui.app.clipboard == "unet.block_0.bias"
        await tui.press("M")
        assert "[ink]" in tui.text()
        await tui.press("escape", "escape", "escape")
        assert tui.app.focused is tui.list


async def test_the_numbers_of_tensors_are_read_when_asked_for(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("i", "j", "v")
        await tui.until(lambda: not tui.app.queue.active)
        assert "-1 … 1  mean 0  ± 0.5  10% zeros" in tui.text()
        await tui.press("k", "v")
        await tui.until(lambda: "Numbers of 4 tensors" in tui.text())
        assert tui.text().index("unet.block_1.bias") < tui.text().index("unet.block_0.bias")
        assert "3 NOT FINITE" in tui.text()


async def test_two_marked_files_are_compared(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("equals_sign")
        assert tui.toasts() == ["mark two files with space first"]
        await tui.press("space", "space", "equals_sign")
        await tui.until(lambda: isinstance(tui.app.screen, CompareScreen))
        assert "unet: 1 differ, 3 same" in tui.text()
        assert "has other values" in tui.text()
        assert "unet.block_0.weight" in tui.text()


async def test_a_name_that_is_cut_stands_in_full_under_its_table(open_program: Open) -> None:
    async with open_program((48, 24)) as tui:
        await tui.press("space", "space", "equals_sign")
        await tui.until(lambda: isinstance(tui.app.screen, CompareScreen))
        whole = tui.app.screen.query_one(".whole", Static)
        assert whole.display
        assert str(whole.render()) == "unet.block_0.weight"


async def test_the_hub_is_asked_and_what_is_here_is_not_fetched_again(
    open_program: Open, put: Put
) -> None:
    async with open_program((120, 40)) as tui:
        await tui.press("H", *"ink")
        await tui.press("enter")
        await tui.until(lambda: not tui.app.queue.active)
        assert tui.script.asked == ["civitai: ink"]
        assert "[Ink] wash · v1" in tui.text()
        assert "Already here" in tui.text()
        await tui.press("D")
        assert tui.toasts() == ["already here: #4"]
        tui.script.gate.set()
        tui.script.outcome = "1 downloaded"
        assert "✓  Line art" not in tui.text()
        put("line art", 10)
        await tui.press("j", "D")
        await tui.until(lambda: tui.script.asked[1:] == ["downloads"] and not tui.app.queue.active)
        assert [job.outcome for job in tui.app.queue.jobs][1:] == ["queued as 1", "1 downloaded"]
        await tui.until(lambda: "✓  Line art" in tui.text())
        await tui.until(lambda: "Downloads: 1 downloaded" in tui.toasts())
        assert "#10" in tui.text()
        await tui.press("k", "enter")
        assert tui.names() == ["ink wash"]


async def test_the_queue_of_downloads_is_seen_and_steered(open_program: Open) -> None:
    async with open_program((120, 40)) as tui:
        tui.script.downloads = (
            queued(1, "queued"),
            queued(2, "failed", Trouble("went [away]", "not_available", None, None, 3, True)),
        )
        await tui.press("J")
        await tui.until(lambda: "ORG/[1].safetensors" in tui.text())
        await tui.press("z", "t", "j")
        assert "went [away]" in tui.text()
        assert tui.script.asked == ["pause 1", "first 1"]
        await tui.press("x")
        assert tui.script.asked[2:] == ["cancel 2"]
        await tui.press("a")
        await tui.until(tui.script.halfway.is_set)
        assert tui.script.asked[3:] == ["resume 2", "downloads"]
        await tui.press("x")  # of the same download, though a job stands above it now
        assert tui.script.asked[5:] == ["cancel 2"]
        tui.script.gate.set()
        await tui.until(lambda: not tui.app.queue.active)
        await tui.press("C")
        assert tui.script.asked[-1] == "clear"
        assert "Nothing was done yet." in tui.text()


async def test_what_was_left_in_the_queue_is_told_at_the_start(
    open_program: Open, script: Script
) -> None:
    script.downloads = (queued(1, "queued"), queued(2, "paused"))
    async with open_program() as tui:
        await tui.until(tui.toasts)
        assert tui.toasts() == ["1 download left in the queue: J, then r, runs it"]


def queued(number: int, state: str, trouble: Trouble | None = None) -> QueuedDownload:
    wanted = Wanted("huggingface", "example.org", "{}", f"ORG/[{number}].safetensors", "c", 4000)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return QueuedDownload(
        number, wanted, 0, DownloadState(state), 1000, None, trouble, None, moment, None
    )


async def test_a_repository_opens_into_its_files_and_esc_leads_back(open_program: Open) -> None:
    async with open_program((120, 40)) as tui:
        files = tui.script.cards
        tui.script.cards = (replace(files[1], name="ORG/[NAME]", opens="ORG/[NAME]"),)
        await tui.press("H", "escape", "s", "slash", *"ink")
        await tui.press("enter")
        await tui.until(lambda: "Enter lists its files" in tui.text())
        tui.script.cards = files
        await tui.press("enter")
        await tui.until(lambda: "Line art · v2" in tui.text())
        assert tui.script.asked == ["huggingface: ink", "huggingface: ORG/[NAME]"]
        await tui.press("K", "2")
        await tui.until(lambda: not tui.app.queue.active)
        assert tui.script.asked[2:] == ["huggingface: ORG/[NAME] lora"]
        await tui.press("escape")
        assert "Enter lists its files" in tui.text()
        await tui.press("m")
        await tui.until(lambda: not tui.app.queue.active)
        await tui.press("escape")
        assert tui.app.focused is tui.list


async def test_what_a_peek_tells_stays_with_the_card(open_program: Open) -> None:
    async with open_program((120, 40)) as tui:
        peek = replace(tui.script.cards[1], peek=lambda _: "lora, sd-1, safe; 9 kB read")
        tui.script.cards = (peek,)
        await tui.press("H", *"ink")
        await tui.press("enter")
        await tui.until(lambda: "Line art" in tui.text())
        await tui.press("p")
        await tui.until(lambda: "9 kB read" in tui.text())


async def test_a_service_that_does_not_answer_says_so_in_the_list(open_program: Open) -> None:
    async with open_program() as tui:
        tui.script.failure = NotAvailable("cannot be reached", hint="are you offline?")
        await tui.press("H", "escape", "s", "slash", *"a/b")
        await tui.press("enter")
        await tui.until(lambda: not tui.app.queue.active)
        await tui.press("escape") if not isinstance(tui.app.screen, HubScreen) else None
        assert tui.script.asked == ["huggingface: a/b"]
        assert "cannot be reached (are you offline?)" in tui.text()


async def test_a_small_terminal_says_in_full_what_a_setting_is_for(open_program: Open) -> None:
    async with open_program((80, 24)) as program:
        await program.press("comma", "down")
        about = program.app.screen.query_one("#settings-about", Static)
        assert "without one library.db beside the settings" in str(about.render())
        await program.press("down", "down", "down", "down", "down")
        assert program.app.focused is program.app.screen.query_one("#models_layout")
        assert "whose folders by kind" in str(about.render())


async def test_settings_change_the_colours_and_the_file(
    open_program: Open, workspace: Workspace
) -> None:
    async with open_program() as tui:
        await tui.press("comma", "right")
        assert tui.app.theme == "assetmgr-light"
        tui.app.screen.query_one("#images", Options).focus()
        await tui.press("right")
        tui.app.screen.query_one("#preview_base", Input).value = "#3"
        await tui.press("ctrl+s")
        assert 'preview_base = "#3"' in workspace.paths.config.read_text()
        assert workspace.settings.images == "graphics"


async def test_a_setting_that_means_nothing_is_explained_and_nothing_is_written(
    open_program: Open, workspace: Workspace
) -> None:
    async with open_program() as tui:
        await tui.press("comma")
        tui.app.screen.query_one("#database_url", Input).value = "[nonsense]"
        await tui.press("ctrl+s")
        assert "must be a database URL" in tui.text()
        assert not workspace.paths.config.exists()


async def test_a_failed_job_is_done_again(open_program: Open) -> None:
    async with open_program((120, 40)) as tui:
        tui.script.failure = NotAvailable("no base checkpoint")
        tui.script.gate.set()
        await tui.press("p")
        await tui.until(tui.toasts)
        tui.script.failure = None
        await tui.press("J", "a")
        await tui.until(lambda: len(tui.toasts()) > 1)
        done, _failed = tui.app.screen.query_one(TableLines).rows
        assert tui.app.screen.query_one(TableLines).current == done
        assert tui.script.asked == ["preview #1", "preview #1"]
        assert tui.toasts()[1] == "Preview of anything v5: done"
        assert not tui.app.queue.pressing


async def test_the_next_start_begins_where_the_last_one_ended(
    workspace: Workspace, commands: ScriptedCommands, open_program: Open
) -> None:
    async with open_program() as tui:
        await tui.filter("style")
        await tui.press("enter", "s", "right_square_bracket", "right_square_bracket")
        await tui.press("G")
        await tui.press("enter", "j", "j", "j")
        assert tui.details.line == 3
        tui.app.theme = "assetmgr-contrast"
        commands.keep(tui.app.preferences)
    async with open_program() as tui:
        assert tui.app.theme == "assetmgr-contrast"
        assert tui.names() == ["ink wash", "detail tweaker"]
        assert tui.app.screen.query_one(FilterInput).value == "style"
        assert tui.list.current.name == "detail tweaker"
        await tui.until(lambda: tui.details.line == 3)


async def test_the_cursor_comes_back_to_its_asset_among_thousands(
    workspace: Workspace, commands: ScriptedCommands, open_program: Open, put: Put
) -> None:
    for number in range(PAGE_ROWS):
        put(f"another {number:03}", 100 + number)
    async with open_program() as tui:
        await tui.press("G", "k")
        stood = tui.list.current
        commands.keep(tui.app.preferences)
    workspace.library.forget([1])  # an earlier one
    async with open_program() as tui:
        assert stood is not None
        assert tui.list.current.id == stood.id
        await tui.press("g")
        await tui.until(lambda: tui.list.current is not None)
        assert tui.list.current.name == "another 000"
    workspace.library.forget(row.id for row in workspace.library.search("").rows)
    put("only one", 7)
    async with open_program() as tui:
        assert tui.names() == ["only one"]


async def test_the_first_start_offers_folders_of_other_programs() -> None:
    script = Script(installed=(ModelFolder("ComfyUI", Path("/ui/[models]"), 12),))
    script.gate.set()
    with Workspace.open() as workspace:
        app = AssetManagerApp(workspace, ScriptedCommands(workspace, script))
        async with app.run_test() as pilot:
            await until(pilot, lambda: isinstance(app.screen, WelcomeScreen) and app.focused)
            app.screen.query_one("#folder", Input).value = "/mine"
            await pilot.press("enter")
            await until(pilot, lambda: script.asked)
    assert script.asked == ["scan /ui/[models] /mine"]


def test_leaving_notes_how_the_screens_look(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def user(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: len(pilot.app.screen_stack) > 1)
        await until(pilot, lambda: pilot.app.screen.query_one(AssetList).loaded)
        await pilot.press("s", "G", "q")

    run = partialmethod(AssetManagerApp.run, headless=True, auto_pilot=user)
    monkeypatch.setattr(AssetManagerApp, "run", run)
    run_tui(workspace)
    kept = load_preferences(workspace)
    assert (kept.sort, kept.row) == ("-size", 8)
