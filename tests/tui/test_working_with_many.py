"""Marks, and what is done with all that are marked; and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from textual.command import CommandList
from textual.widgets import Input

from assetmgr.workspace import Workspace
from converters.errors import AssetNotFound
from tui.screens.ask import AskScreen
from tui.screens.confirm import ConfirmScreen
from tui.screens.duplicates import DuplicatesScreen
from tui.screens.form import FormScreen
from tui.widgets.facets_panel import FacetsPanel
from tui.widgets.title_bar import TitleBar

if TYPE_CHECKING:
    from conftest import Open


async def test_space_marks_and_goes_on_and_escape_unmarks(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("space", "space")
        assert [row.name for row in tui.list.chosen] == ["anything v5", "bad hands"]
        assert [line[0] for line in tui.lines()[:3]] == ["▌", "▌", " "]
        assert tui.app.screen.query_one(TitleBar).totals == "2 marked · 9 assets"
        await tui.press("escape")
        assert [row.name for row in tui.list.chosen] == ["detail tweaker"]


async def test_marks_survive_another_filter(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("space")
        await tui.filter("ink")
        await tui.press("enter", "space")
        assert {row.name for row in tui.list.chosen} == {"anything v5", "ink wash"}


async def test_a_star_marks_all_that_are_found_and_once_more_none(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.filter("tag:style")
        await tui.press("enter", "asterisk")
        assert {row.name for row in tui.list.chosen} == {"detail tweaker", "ink wash"}
        await tui.press("asterisk")
        assert not tui.list.marks


async def test_one_key_previews_all_that_are_marked(open_program: Open) -> None:
    async with open_program() as tui:
        tui.script.gate.set()
        await tui.press("space", "space", "p")
        await tui.until(tui.toasts)
        assert tui.script.asked == ["preview #1 #2"]
        assert tui.toasts() == ["Preview of 2 assets: done"]


async def test_a_capital_v_verifies_and_z_renders_too(open_program: Open) -> None:
    async with open_program() as tui:
        tui.script.gate.set()
        await tui.press("V", "j", "Z")
        await tui.until(lambda: len(tui.script.asked) == 2)
        assert sorted(tui.script.asked) == ["verify #1", "verify --render #2"]


async def test_tags_of_many_are_added_and_removed_and_undone(
    open_program: Open, workspace: Workspace
) -> None:
    async with open_program() as tui:
        await tui.press("j", "j", "space", "space", "t")
        await tui.answer("new one, -style")
        assert workspace.library.get(3).tags == ("new one", "red")
        assert workspace.library.get(4).tags == ("new one",)
        await tui.press("u")
        assert workspace.library.get(3).tags == ("red", "style")
        assert workspace.library.get(4).tags == ("style",)


async def test_digits_rate_and_undo_takes_it_back(open_program: Open, workspace: Workspace) -> None:
    async with open_program() as tui:
        await tui.press("space", "space", "4")
        assert [workspace.library.get(n).rating for n in (1, 2)] == [4, 4]
        await tui.press("u")
        assert [workspace.library.get(n).rating for n in (1, 2)] == [None, None]
        await tui.press("u")
        assert "there is nothing to take back" in tui.toasts()


async def test_a_note_is_written_and_found(open_program: Open, workspace: Workspace) -> None:
    async with open_program() as tui:
        await tui.press("N")
        assert isinstance(tui.app.screen, AskScreen)
        await tui.answer("best at [0.7]")
        assert workspace.library.get(1).note == "best at [0.7]"
        assert "best at [0.7]" in tui.facts()


async def test_forgetting_asks_first(open_program: Open, workspace: Workspace) -> None:
    async with open_program() as tui:
        await tui.press("delete")
        assert isinstance(tui.app.screen, ConfirmScreen)
        assert "anything v5" in tui.text()
        await tui.press("n")
        assert workspace.library.get(1).name == "anything v5"
        await tui.press("delete", "y")
        with pytest.raises(AssetNotFound):
            workspace.library.get(1)
        assert tui.names()[0] == "bad hands"


async def test_a_form_plans_every_answer_anew_and_says_what_cannot_be(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("space", "space", "m")
        form = tui.app.screen
        assert isinstance(form, FormScreen)
        assert "merge #1 #2" in tui.text()
        await tui.press("right")
        assert "1.fp16.safetensors" in tui.text()
        await tui.answer("")
        assert "a file needs a name" in tui.text()
        await tui.press("ctrl+s")
        assert tui.app.screen is form
        await tui.answer("[new].safetensors")
        assert "[new].safetensors" in tui.text()
        await tui.press("shift+tab", "right")
        assert "[new].safetensors" in tui.text()
        assert tui.script.asked == []


async def test_what_can_be_copied_is_chosen_by_a_letter(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("Y", "p")
        assert tui.app.clipboard == "a red circle"
        await tui.press("Y", "f")
        assert tui.app.clipboard == "/models/checkpoint/anything v5.safetensors"
        await tui.press("Y", "escape")
        assert tui.app.clipboard.endswith("v5.safetensors")


async def test_the_facets_count_and_narrow(open_program: Open) -> None:
    async with open_program((120, 40)) as tui:
        await tui.press("f")
        facets = tui.text()
        assert "sd-1" in facets
        assert "dangerous" in facets
        await tui.press("j", "enter")
        assert tui.names() == ["mystery"]
        assert tui.app.screen.query_one("#filter-input", Input).value == "base:unknown"
        await tui.press("enter")
        assert len(tui.names()) == 9
        await tui.press("j", "j", "k", "k", "enter")  # past a heading, and back
        assert tui.app.screen.query_one("#filter-input", Input).value == "base:unknown"
        await tui.press("f")
        assert tui.app.focused is tui.list


async def test_a_click_takes_a_facet_in_and_another_one_out(open_program: Open) -> None:
    async with open_program((120, 40)) as tui:
        await tui.press("f")
        facets = tui.app.screen.query_one(FacetsPanel)
        for row, found in ((2, 1), (None, 9), (0, 9)):  # a value, it again, and a heading
            await tui.pilot.click(facets, offset=(4, facets.cursor if row is None else row))
            await tui.rest()
            assert len(tui.names()) == found


async def test_a_search_is_kept_opened_and_removed(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.filter("tag:style")
        await tui.press("enter", "s", "S", "plus")
        await tui.answer("my [styles]")
        await tui.press("escape")
        assert len(tui.names()) == 9
        await tui.press("S", "1")
        assert tui.names() == ["ink wash", "detail tweaker"]
        await tui.press("S", "minus", "S")
        assert "nothing here yet" in tui.text()


async def test_a_search_without_a_name_is_called_as_it_reads(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("S", "plus", "enter")
        assert "a saved search needs a name" in tui.toasts()
        await tui.filter("tag:style")
        await tui.press("enter", "S", "plus", "enter", "escape", "S", "1")
        assert tui.names() == ["detail tweaker", "ink wash"]


async def test_an_order_is_chosen_from_all(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("1", "j", "5", "o", "r")
        assert tui.names()[:2] == ["bad hands", "anything v5"]


async def test_the_palette_finds_every_command_by_name(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("colon")
        await tui.press(*"bytes they")
        hits = tui.app.screen.query_one(CommandList)
        await tui.until(lambda: hits.option_count == 1)
        await tui.press("enter")
        await tui.until(lambda: isinstance(tui.app.screen, DuplicatesScreen))


async def test_q_is_a_letter_where_text_is_typed(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("N", "q", "colon")
        assert isinstance(tui.app.screen, AskScreen)


async def test_the_trash_shows_its_plan_first(open_program: Open) -> None:
    async with open_program() as tui:
        tui.script.gate.set()
        await tui.press("space", "space", "X")
        assert isinstance(tui.app.screen, FormScreen)
        await tui.press("ctrl+s")
        await tui.until(tui.toasts)
        assert tui.script.asked == ["trash #1 #2 keep"]
