"""Finding assets: tabs, filter, order, cursor, and what is shown of the selected one."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from helpers.waiting import PATIENCE, until
from rich.cells import cell_len
from textual import events
from textual.widgets import Static

from assetmgr.operations.preferences import Preferences
from assetmgr.workspace import Workspace
from converters.progress import CancellableProgress
from registry.library import Library
from registry.list_records import Beginning
from registry.searching import at_once
from tui.app import AssetManagerApp
from tui.listing import Listing
from tui.query import View
from tui.testing import Script, ScriptedCommands
from tui.widgets.asset_list import AssetList
from tui.widgets.filter_bar import FilterInput
from tui.widgets.kind_tabs import KindTabs
from tui.widgets.list_header import ListHeader
from tui.widgets.title_bar import TitleBar

if TYPE_CHECKING:
    from conftest import Driver, Open

NAMES = ["anything v5", "bad hands", "detail tweaker", "ink wash", "mystery"]


async def test_the_library_opens_by_name_with_its_totals(open_program: Open) -> None:
    async with open_program() as tui:
        assert tui.names()[:5] == NAMES
        assert tui.app.screen.query_one(TitleBar).totals == "9 assets"
        assert tui.app.screen.query_one(KindTabs).counts == (9, 3, 2, 1, 1, 1, 1)


async def test_the_first_rows_are_shown_and_used_before_the_library_is_open(
    workspace: Workspace,
    commands: ScriptedCommands,
    script: Script,
    driver: type[Driver],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, opened = threading.Event(), Library.open

    def slow(*given: str) -> Library:
        gate.wait(PATIENCE)
        return opened(*given)

    monkeypatch.setattr(Library, "open", slow)
    commands.keep(Preferences(query="kind:lora", row=1, welcomed=True))
    app = AssetManagerApp(workspace, commands)
    async with app.run_test() as pilot:
        tui = driver(app, pilot, script)
        await until(pilot, lambda: len(app.screen_stack) > 1 and tui.list.loaded)
        assert tui.names() == ["detail tweaker", "ink wash"]
        assert tui.list.cursor == 1
        await pilot.press("k")
        assert tui.list.cursor == 0
        await pilot.press("slash", "space", "i", "n", "k")  # it is the search that waits
        assert app.screen.query_one(FilterInput).value == "kind:lora ink"
        assert not workspace.is_open
        gate.set()
        await tui.rest()
        assert tui.names() == ["ink wash"]
        assert app.screen.query_one(TitleBar).totals == "9 assets"


async def test_what_opening_the_library_tells_leaves_the_first_rows_alone(
    workspace: Workspace, open_program: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Listing] = []
    show = AssetList.show

    def noted(assets: AssetList, listing: Listing, cursor: int, note: tuple[str, ...]) -> None:
        shown.append(listing)
        show(assets, listing, cursor, note)

    monkeypatch.setattr(AssetList, "show", noted)
    async with open_program() as tui:
        assert workspace.is_open
        assert tui.app.screen.query_one(KindTabs).counts[0] == 9
        assert [listing.count for listing in shown] == [9]


@pytest.mark.parametrize("query", ["tag:style", "-kind:vae"])
async def test_a_view_that_needs_the_library_is_searched_for_at_once(
    commands: ScriptedCommands, open_program: Open, query: str
) -> None:
    commands.keep(Preferences(query=query, welcomed=True))
    async with open_program() as tui:
        assert len(tui.names()) == {"tag:style": 2, "-kind:vae": 8}[query]
        assert tui.app.screen.query_one(TitleBar).totals == "9 assets"


async def test_the_filter_narrows_with_every_key_and_escape_clears_it(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("slash", "i", "n")
        assert tui.names() == ["anything v5", "ink wash"]
        await tui.press("k")
        assert tui.names() == ["ink wash"]
        await tui.press("escape")
        assert len(tui.names()) == 9
        assert tui.app.focused is tui.list


async def test_a_letter_and_the_rows_that_it_finds_are_drawn_together(
    open_program: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_once, "SECONDS", PATIENCE)
    async with open_program() as tui:
        line = tui.app.screen.query_one(FilterInput)
        line.focus()
        for letters, found in (("in", ["anything v5", "ink wash"]), ("k", ["ink wash"])):
            line.insert_text_at_cursor(letters)  # and nothing is awaited
            assert tui.names() == found
        await tui.rest()
        assert str(tui.app.screen.query_one("#filter-matches", Static).content) == "1 found"
        assert tui.facts().startswith("ink wash")


class Counting:
    """Holds back how many rows there are, and tells who asked."""

    def __init__(self, commands: ScriptedCommands, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        self.asked: list[tuple[str, CancellableProgress]] = []
        self._number, self._beginning = commands.number, commands.beginning
        monkeypatch.setattr(commands, "number", self.number)
        monkeypatch.setattr(commands, "beginning", self.beginning)
        monkeypatch.setattr(commands, "at_once", lambda *_: None)

    def beginning(self, view: View, limit: int, progress: CancellableProgress) -> Beginning:
        """The rows, and nothing of their number."""
        return replace(self._beginning(view, limit, progress), total=None)

    def number(self, view: View, progress: CancellableProgress) -> int:
        """The number, once the gate is open."""
        self.asked.append((view.text, progress))
        self.gate.wait(PATIENCE)
        return self._number(view, progress)


async def test_rows_are_shown_before_their_number_is_known(
    open_program: Open, commands: ScriptedCommands, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_program() as tui:
        counting = Counting(commands, monkeypatch)
        line = tui.app.screen.query_one(FilterInput)
        found = tui.app.screen.query_one("#filter-matches", Static)
        line.value = "i"
        await until(tui.pilot, lambda: counting.asked)
        line.value = "in"
        await until(tui.pilot, lambda: len(counting.asked) == 2)
        assert tui.names() == ["anything v5", "ink wash"]
        assert str(found.content) == "… found"
        assert [(text, asked.cancelled) for text, asked in counting.asked] == [
            ("i", True),
            ("in", False),
        ]
        counting.gate.set()
        await tui.rest()
        assert str(found.content) == "2 found"


async def test_enter_keeps_the_filter_and_gives_the_keyboard_to_the_list(
    open_program: Open,
) -> None:
    async with open_program() as tui:
        await tui.filter("tag:style")
        await tui.press("enter", "j")
        assert tui.names() == ["detail tweaker", "ink wash"]
        assert tui.list.current is not None
        assert tui.list.current.name == "ink wash"


async def test_a_filter_whose_letters_come_all_at_once_is_no_row_of_commands(
    open_program: Open,
) -> None:
    async with open_program() as tui:
        for key, letter in (("slash", "/"), *zip("warm", "warm", strict=True)):
            tui.app.post_message(events.Key(key, letter))
        await tui.until(lambda: tui.list.view == View(text="warm"))
        assert not tui.app.queue.jobs


async def test_a_filter_that_means_nothing_is_explained_and_the_list_stays(
    open_program: Open,
) -> None:
    async with open_program() as tui:
        await tui.filter("wrong:")
        error = tui.app.screen.query_one("#filter-error", Static)
        assert error.display
        assert "wrong" in str(error.render())
        await tui.press("escape")
        assert not error.display
        assert len(tui.names()) == 9


async def test_a_bad_filter_leaves_the_rows_of_the_last_good_one(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.filter("ink")
        await tui.filter("ink wrong:x")
        assert tui.names() == ["ink wash"]


async def test_keys_that_sort_outside_are_letters_in_the_filter(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("slash", *"qsx")
        assert tui.app.screen.query_one(FilterInput).value == "qsx"
        assert tui.app.is_running


async def test_brackets_turn_the_tabs_around_the_ends(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("right_square_bracket", "right_square_bracket")
        assert tui.names() == ["detail tweaker", "ink wash"]
        await tui.press("left_square_bracket", "left_square_bracket", "left_square_bracket")
        assert tui.names() == ["mystery"]


async def test_a_click_on_a_tab_turns_to_it(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.pilot.click(KindTabs, offset=(12, 0))
        await tui.rest()
        assert tui.app.screen.query_one(KindTabs).active == 1
        assert len(tui.names()) == 3


async def test_sort_keys_order_the_list_and_turn_it(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("s")
        assert tui.names()[0] == "anything v5"
        await tui.press("s")
        assert tui.names()[0] == "mystery"
        assert "Size ▲" in str(tui.app.screen.query_one(ListHeader).render())
        await tui.press("n", "n")
        assert tui.names()[-1] == "anything v5"


async def test_a_click_on_a_title_sorts_by_it(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.pilot.click(ListHeader, offset=(6, 0))
        await tui.rest()
        assert tui.names()[-1] == "anything v5"


async def test_the_cursor_moves_and_the_details_follow(open_program: Open) -> None:
    async with open_program() as tui:
        for keys, name in (
            ("j", "bad hands"),
            ("jjk", "detail tweaker"),
            ("Gk", "vae mse"),
            ("g", "anything v5"),
        ):
            await tui.press(*keys)
            assert tui.facts().startswith(name)


async def test_a_click_selects_a_row_and_a_second_one_opens_it(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.pilot.click(tui.list, offset=(5, 2))
        await tui.rest()
        assert tui.facts().startswith("detail tweaker")
        await tui.pilot.click(tui.list, offset=(5, 3), times=2)
        await tui.rest()
        assert tui.app.screen.has_class("-reading")
        await tui.press("escape")
        assert not tui.app.screen.has_class("-reading")
        assert tui.app.focused is tui.list


async def test_the_cursor_stays_on_its_asset_when_the_library_is_read_again(
    open_program: Open,
) -> None:
    async with open_program() as tui:
        await tui.press("j", "j", "j")
        tui.script.gate.set()
        await tui.press("r")
        await tui.until(tui.toasts)
        assert tui.list.current is not None
        assert tui.list.current.name == "ink wash"


async def test_names_are_neither_markup_nor_control_characters(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.filter("pastel")
        assert "pastel [bold]mix[red] \\x1b[31m  " in tui.lines()[0]
        assert tui.facts().startswith("pastel [bold]mix[red] \\x1b[31m")


async def test_wide_characters_keep_the_columns_in_line(open_program: Open) -> None:
    async with open_program() as tui:
        lines = tui.lines()
        kinds = {cell_len(line[: line.index("sd-1")]) for line in lines if "sd-1" in line}
        assert len(kinds) == 1
        assert {cell_len(line) for line in lines} == {tui.list.scrollable_content_region.width}


async def test_an_empty_result_says_what_to_do_next(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.filter("nosuch")
        said = " ".join(" ".join(tui.lines()).split())
        assert "Nothing matches nosuch" in said
        assert "Esc clears the filter" in said


async def test_it_works_on_a_large_terminal(open_program: Open) -> None:
    async with open_program((80, 24)) as tui:
        assert tui.names()[:5] == NAMES
        assert tui.facts().startswith("anything v5")
        assert tui.details.region.bottom <= 23


async def test_the_details_can_be_read_while_facets_are_shown(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("f", "escape", "enter")
        assert tui.details.region.height > 9
        assert "anything v5" in tui.facts()
        await tui.press("escape")
        assert tui.list.region.height


async def test_who_goes_on_while_the_list_is_read_again_is_not_put_back(
    open_program: Open, commands: ScriptedCommands, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, gate, beginning = threading.Event(), threading.Event(), commands.beginning

    def slow(view: View, limit: int, progress: CancellableProgress) -> Beginning:
        asked.set()
        gate.wait(PATIENCE)
        return beginning(view, limit, progress)

    async with open_program() as tui:
        monkeypatch.setattr(commands, "beginning", slow)
        tui.app.on_library_changed()
        await until(tui.pilot, asked.is_set)
        await tui.pilot.press("j", "j")
        gate.set()
        await tui.rest()
        assert tui.list.cursor == 2
