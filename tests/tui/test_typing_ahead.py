"""Keys that come all at once, as from a fast hand or a slow line, do what they would one by one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from helpers.waiting import PATIENCE, until
from textual import events
from textual.widgets import Input

from assetmgr.workspace import Workspace
from converters.errors import NotAvailable
from converters.progress import Progress
from registry.list_records import Beginning
from registry.records import Asset
from tui.forms import Form
from tui.query import View
from tui.screens import form
from tui.testing import ScriptedCommands

if TYPE_CHECKING:
    from conftest import Driver, Open


def type_at_once(program: Driver, *keys: str) -> None:
    """Everything comes in one read; nothing has its effect in between."""
    for key in keys:
        character = " " if key == "space" else key if len(key) == 1 else None
        program.app.post_message(events.Key(key, character))


async def typed(program: Driver, *keys: str) -> None:
    """All of them came and had their effect."""
    all_came = threading.Event()
    type_at_once(program, *keys)
    program.app.call_later(all_came.set)
    await program.until(lambda: all_came.is_set() and program.app.keys_are_done)


async def test_what_follows_the_enter_of_a_line_is_not_added_to_it(
    open_program: Open, workspace: Workspace
) -> None:
    async with open_program() as program:
        await typed(program, "N", *"hello", "enter", "j", "j")
        assert workspace.library.get(1).note == "hello"
        assert program.list.cursor == 2


async def test_a_key_after_a_filter_or_a_tab_is_for_the_rows_that_it_brings(
    open_program: Open,
    workspace: Workspace,
    commands: ScriptedCommands,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, gate, beginning = threading.Event(), threading.Event(), commands.beginning

    def slow(view: View, limit: int, progress: Progress) -> Beginning:
        asked.set()
        gate.wait(PATIENCE)
        return beginning(view, limit, progress)

    async def typed_before_it_came(*keys: str) -> None:
        asked.clear()
        gate.clear()
        type_at_once(program, *keys)
        await until(program.pilot, asked.is_set)
        for _ in range(20):
            await program.pilot.pause(0)
        gate.set()
        await program.until(lambda: program.app.keys_are_done)

    async with open_program() as program:
        monkeypatch.setattr(commands, "beginning", slow)
        monkeypatch.setattr(commands, "at_once", lambda *_: None)
        await typed_before_it_came("slash", *"ink", "enter", "4")
        await program.until(lambda: workspace.library.get(4).rating == 4)
        await typed_before_it_came("escape", "3")
        await program.until(lambda: workspace.library.get(1).rating == 3)
        await typed_before_it_came("j", "right_square_bracket", "5")
        await program.until(lambda: program.list.current.rating == 5)
        assert program.list.cursor == 0


async def test_letters_after_the_key_of_a_dialog_are_for_it_however_long_it_takes(
    open_program: Open,
    workspace: Workspace,
    commands: ScriptedCommands,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, gate, asset = threading.Event(), threading.Event(), commands.asset

    def slow(asset_id: int) -> Asset:
        asked.set()
        gate.wait(PATIENCE)
        return asset(asset_id)

    async with open_program() as program:
        monkeypatch.setattr(commands, "asset", slow)
        type_at_once(program, "j", "N", *"xX", "delete")
        await until(program.pilot, asked.is_set)
        for _ in range(20):
            await program.pilot.pause(0)
        gate.set()
        await program.until(lambda: program.app.keys_are_done)
        assert program.app.screen.query_one(Input).value == "xX"
        await typed(program, "enter", "j")
        assert workspace.library.get(2).note == "xX"
        assert not program.app.queue.jobs


async def test_a_dialog_that_does_not_come_leaves_the_keys_to_the_list(
    open_program: Open, commands: ScriptedCommands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_form(*_: object) -> Form:
        raise NotAvailable("no form")

    monkeypatch.setattr(commands, "form", no_form)
    async with open_program() as program:
        type_at_once(program, "c", "j", "j")
        await program.until(lambda: program.list.cursor == 2)


async def test_go_waits_for_the_plan_of_what_is_typed(
    open_program: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_program() as program:
        await program.press("c", "down")
        with monkeypatch.context() as patch:
            patch.setattr(form, "SETTLE_SECONDS", PATIENCE)
            type_at_once(program, "x", "ctrl+s")
            await until(program.pilot, program.toasts)
        assert program.toasts() == ["there is no plan yet of what is typed"]
        assert not program.app.queue.jobs
        await typed(program, "y")
        await typed(program, "ctrl+s")
        assert program.script.asked == ["convert #1 keep"]


async def test_a_dialog_that_closes_with_the_keyboard_in_it_holds_nothing_up(
    open_program: Open,
) -> None:
    async with open_program() as program:
        for _ in range(2):
            await typed(program, "question_mark", "escape", "J", "escape", "S", "escape", "j")
        assert program.list.cursor == 2
