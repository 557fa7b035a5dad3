"""What the keys do: previews, conversions, tags, hashes, help, leaving."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.waiting import until
from textual.widgets import Input

from assetmgr.workspace import Workspace
from converters.errors import NotAvailable
from tui.screens.ask import AskScreen
from tui.screens.confirm import ConfirmScreen
from tui.screens.form import FormScreen
from tui.screens.help import HelpScreen
from tui.widgets.facts import Facts
from tui.widgets.half_cells import HalfCells
from tui.widgets.jobs_pane import JobLine

if TYPE_CHECKING:
    from conftest import Driver, Open


def job_lines(tui: Driver) -> list[str]:
    return [str(line.render()) for line in tui.app.screen_stack[1].query(JobLine)]


async def test_p_renders_the_selected_asset_in_the_background(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("j", "p")
        await tui.until(tui.script.halfway.is_set)
        assert tui.script.asked == ["preview #2"]
        assert "Preview of bad hands" in job_lines(tui)[0]
        await tui.press("j")  # the list goes on working meanwhile
        assert tui.facts().startswith("detail tweaker")
        tui.script.gate.set()
        await tui.until(tui.toasts)
        assert tui.toasts() == ["Preview of bad hands: done"]
        assert job_lines(tui) == []


async def test_a_failed_preview_says_why_until_it_is_dismissed(open_program: Open) -> None:
    async with open_program() as tui:
        tui.script.failure = NotAvailable("no base checkpoint", hint="scan one")
        tui.script.gate.set()
        await tui.press("p")
        await tui.until(tui.toasts)
        assert job_lines(tui) == [
            "✗ Preview of anything v5: no base checkpoint (scan one) x dismisses"
        ]
        await tui.press("x")
        assert job_lines(tui) == []


async def test_x_stops_the_running_job(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("p")
        await tui.until(tui.script.halfway.is_set)
        await tui.press("x")
        await tui.until(tui.toasts)
        assert tui.toasts() == ["Preview of anything v5: stopped"]


async def test_a_conversion_shows_its_plan_and_goes_only_when_agreed(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("c")
        assert isinstance(tui.app.screen, FormScreen)
        assert "1.safetensors" in tui.text()
        await tui.press("escape")
        assert tui.script.asked == []
        tui.script.gate.set()
        await tui.press("c", "right")
        await tui.press("ctrl+s")
        await tui.until(tui.toasts)
        assert tui.script.asked == ["convert #1 fp16"]


async def test_tags_are_edited_in_one_line(open_program: Open, workspace: Workspace) -> None:
    async with open_program() as tui:
        await tui.press("j", "j", "t")
        assert isinstance(tui.app.screen, AskScreen)
        line = tui.app.screen.query_one(Input)
        assert line.value == "red, style"
        line.value = "style, [new] , style,"
        await tui.press("enter")
        assert workspace.library.get(3).tags == ("[new]", "style")
        assert "[new], style" in tui.facts()


async def test_escape_leaves_the_tags_as_they_were(
    open_program: Open, workspace: Workspace
) -> None:
    async with open_program() as tui:
        await tui.press("t", "x", "escape")
        assert workspace.library.get(1).tags == ("anime",)


async def test_y_copies_the_short_hash_and_then_the_long_one(
    open_program: Open, workspace: Workspace
) -> None:
    async with open_program() as tui:
        sha256 = workspace.library.get(1).hashes["sha256"]
        assert sha256 is not None
        await tui.press("y")
        assert tui.app.clipboard == sha256[:10]
        await tui.press("y")
        assert tui.app.clipboard == sha256


async def test_question_mark_shows_the_keys(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("question_mark")
        assert isinstance(tui.app.screen, HelpScreen)
        assert "render a preview and judge it" in str(tui.app.screen.query_one(Facts).render())
        await tui.press("escape")
        assert not isinstance(tui.app.screen, HelpScreen)


async def test_q_leaves_at_once_when_nothing_runs(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.pilot.press("q")
        await tui.pilot.pause()
        assert not tui.app.is_running


async def test_leaving_asks_when_a_job_runs_and_stops_it(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("p")
        await tui.until(tui.script.halfway.is_set)
        job = tui.app.queue.jobs[0]
        await tui.press("q")
        assert isinstance(tui.app.screen, ConfirmScreen)
        await tui.press("n")
        assert tui.app.is_running
        await tui.press("ctrl+c")
        await tui.pilot.press("y")
        await until(tui.pilot, lambda: not tui.app.is_running)
        assert not job.active


async def test_the_details_tell_what_is_dangerous_and_what_failed(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("j", "j")
        assert "✗ effect" in tui.facts()
        await tui.press("j", "j")
        assert "dangerous" in tui.facts()
        assert "calls os.system" in tui.facts()
        assert "not a model: text" in tui.facts()


async def test_the_details_show_the_picture_of_the_preview(open_program: Open) -> None:
    async with open_program() as tui:
        picture = tui.details.query_one(HalfCells)
        assert picture.display
        await tui.press("j")
        assert not picture.display
        assert "p renders one" in str(tui.details.query_one("#no-picture").render())
