"""Planted faults: each becomes a job to read, and the program goes on."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from functools import partialmethod
from typing import TYPE_CHECKING

import pytest
from textual.message_pump import MessagePump

import tui
from assetmgr.workspace import Workspace
from converters.progress import Progress
from tui.app import AssetManagerApp, run_tui
from tui.bridge import Job, JobState, Lane
from tui.faults import Surviving
from tui.palette import KeyCommands
from tui.widgets.facts import Facts

if TYPE_CHECKING:
    from conftest import Driver, Open


def fails(*_: object, **__: object) -> None:
    raise KeyError("[nowhere]")


@pytest.fixture
def expected(faults: list[Exception]) -> Iterator[list[Exception]]:
    """The faults that came to light; only planted ones, and at least one."""
    yield faults
    assert {str(fault) for fault in faults} == {"'[nowhere]'"}
    faults.clear()


async def assert_goes_on(program: Driver) -> None:
    """The fault can be read, and the keys do what they did."""
    assert any("KeyError: '[nowhere]'" in said for said in program.toasts())
    await program.press("escape", "g", "j", "J")
    assert "a fault of the program" in program.text()
    # Where the line with the file's name is broken depends on where this clone lies.
    assert "in fails" in " ".join(program.text().split())
    await program.press("escape", "k")
    assert program.list.cursor == 0


HANDLERS = (
    ("tui.screens.library.LibraryScreen.action_tiles", "T"),
    ("tui.screens.library.LibraryScreen._sort_by", "o enter"),
    ("tui.widgets.browser.Browser._list_at_once", "slash x"),
    ("tui.widgets.cursor_list.CursorList.action_open", "enter"),
    ("tui.widgets.kind_tabs.KindTabs.on_click", "click"),
    ("tui.screens.settings.SettingsScreen.compose", "comma"),
    ("tui.screens.jobs.JobsScreen.on_mount", "J"),
    ("tui.screens.form.FormScreen._plan", "c escape"),
    ("tui.annotations.Annotations.rate", "4"),
)
"""What fails, and how to get there."""


async def test_a_fault_of_the_program_can_be_read_and_costs_nothing_else(
    open_program: Open, expected: list[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_program() as program:
        for where, way in HANDLERS:
            expected.clear()
            with monkeypatch.context() as patch:
                patch.setattr(where, fails)
                for key in way.split():
                    await (
                        program.pilot.click("KindTabs") if key == "click" else program.press(key)
                    )
                await program.until(lambda: expected)
            await program.press("escape")
            await program.until(lambda: program.app.screen is program.app.screen_stack[1])
            assert program.list.has_focus, where
        await assert_goes_on(program)


async def test_a_fault_in_what_is_called_by_and_by_is_one_too(
    open_program: Open, expected: list[Exception]
) -> None:
    async def work() -> None:
        fails()

    async with open_program() as program:
        screen, queue = program.app.screen, program.app.queue
        plants: tuple[Callable[[], object], ...]
        plants = (
            lambda: queue.submit(Job("x", Lane.LOOK, lambda _: "", then=fails)),
            lambda: screen.set_timer(0.001, fails),
            lambda: program.list.call_later(fails),
            lambda: program.list.call_after_refresh(fails),
            lambda: screen.call_next(fails),
            lambda: screen.run_worker(work, exit_on_error=True),
        )
        for plant in plants:
            expected.clear()
            plant()
            await program.until(lambda: expected)
        await assert_goes_on(program)


async def test_a_fault_in_drawing_is_told_once_and_costs_the_lines_it_is_in(
    open_program: Open, expected: list[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = tui.widgets.asset_list.AssetList.draw

    def drawing(self, index, *more):  # type: ignore[no-untyped-def]
        return fails() if index == 1 else draw(self, index, *more)

    async with open_program() as program:
        monkeypatch.setattr("tui.widgets.asset_list.AssetList.draw", drawing)
        program.list.refresh()
        await program.until(lambda: expected)
        for _ in range(3):
            await program.press("j", "k")
            program.list.refresh()
            await program.rest()
        shown = [strip.text for strip in program.list.render_lines(program.list.size.region)]
        assert "anything v5" in shown[0]
        assert "could not be shown" in shown[1]
        assert "detail tweaker" in shown[2]
        assert len(program.toasts()) == len(program.app.queue.jobs) == len(expected) == 1
        monkeypatch.setattr("tui.widgets.asset_list.AssetList.draw", draw)
        program.list.refresh()
        await program.rest()
        assert "bad hands" in program.list.render_lines(program.list.size.region)[1].text


@pytest.mark.parametrize("method", ["render", "get_content_height"])
async def test_what_cannot_be_drawn_or_measured_is_tried_again_with_what_it_shows_next(
    open_program: Open,
    expected: list[Exception],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    async with open_program((120, 30)) as program:
        facts = program.details.query_one(Facts)
        with monkeypatch.context() as patch:
            patch.setattr(Facts, method, fails)
            await program.press("j")
            await program.until(lambda: expected)
            await program.press("j", "k")
        await program.press("j")
        await program.until(lambda: "detail tweaker" in str(facts.render()))
        await program.until(
            lambda: "could not" not in facts.render_lines(facts.size.region)[0].text
        )
        await assert_goes_on(program)


@pytest.mark.usefixtures("expected")
async def test_a_part_that_cannot_begin_is_a_line(
    open_program: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_program() as program:
        part = Facts()
        with monkeypatch.context() as patch:
            patch.setattr(Facts, "on_mount", fails, raising=False)
            await program.app.screen.mount(part)
            await program.rest()
        shown = part.render_lines(part.size.region.grow((0, 40, 1, 0)))
        assert shown[0].text.startswith("could not be shown")
        await assert_goes_on(program)


def test_a_fault_before_the_library_is_on_the_screen_is_for_whoever_started_the_program(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(AssetManagerApp, "run", partialmethod(AssetManagerApp.run, headless=True))
    monkeypatch.setattr("tui.screens.library.LibraryScreen.compose", fails)
    with pytest.raises(KeyError, match="nowhere"):
        run_tui(workspace)
    assert "".join(capfd.readouterr()).strip() == ""


async def test_a_fault_is_no_job_that_could_be_done_again(
    open_program: Open, expected: list[Exception]
) -> None:
    async with open_program() as program:
        program.list.call_later(fails)
        await program.until(lambda: expected)
        await program.press("J")
        assert "does it again" not in program.text()
        await program.press("a")
        assert len(program.app.queue.jobs) == len(expected) == 1
        assert any("cannot be done again" in said for said in program.toasts())


async def test_faults_are_noted_for_after_the_end(
    open_program: Open, expected: list[Exception], workspace: Workspace
) -> None:
    def fails_in_a_job(_progress: Progress) -> str:
        raise RuntimeError("of a job")

    async with open_program() as program:
        program.app.screen.call_next(fails)
        await program.until(lambda: expected)
        program.app.queue.submit(Job("x", Lane.LOOK, fails_in_a_job))
        await program.until(lambda: "x failed" in program.toasts())
    noted = workspace.paths.faults.read_text()
    assert noted.count("in fails\n") == 1
    assert noted.count("RuntimeError: of a job") == 1


async def test_a_fault_of_the_command_palette_is_told(
    open_program: Open, expected: list[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_program() as program:
        with monkeypatch.context() as patch:
            patch.setattr(KeyCommands, "_keys", fails)
            await program.press("colon")
            await program.until(lambda: expected)
            await program.press("escape")
        await assert_goes_on(program)


async def test_a_fault_that_comes_again_and_again_is_one_job(
    open_program: Open, expected: list[Exception]
) -> None:
    async with open_program() as program:
        program.app.screen.set_interval(0.001, fails)
        await program.until(lambda: len(expected) > 20)
        (job,) = program.app.queue.jobs
        assert job.state is JobState.FAILED
        assert "times)" in job.outcome
        assert len(program.toasts()) == 1
        program.app.queue.clear()
        await program.until(lambda: program.app.queue.jobs)
        assert len(program.app.queue.jobs) == 1


async def test_a_fault_in_showing_the_jobs_themselves_does_not_go_round(
    open_program: Open, expected: list[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_program() as program:
        with monkeypatch.context() as patch:
            patch.setattr("tui.widgets.jobs_pane.JobsPane.sync", fails)
            await program.press("r")
            await program.until(lambda: len(expected) >= 2)
            for _ in range(10):
                await asyncio.sleep(0)
                await program.rest()
            assert len(expected) < 10
        program.script.gate.set()
        await program.until(lambda: not program.app.queue.active)
        await assert_goes_on(program)


def test_every_class_of_ours_that_handles_messages_survives_them() -> None:
    for module in pkgutil.walk_packages(tui.__path__, "tui."):
        importlib.import_module(module.name)
    ours = [kind for kind in subclasses(MessagePump) if kind.__module__.startswith("tui.")]
    assert len(ours) > 40
    assert [kind.__name__ for kind in ours if not issubclass(kind, Surviving)] == []


def subclasses(kind: type) -> Iterator[type]:
    """All of them, however far down."""
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)
