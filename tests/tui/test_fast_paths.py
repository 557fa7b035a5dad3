"""What must stay little, however large the library: counted, not timed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from helpers.waiting import PATIENCE, until
from sqlalchemy import event
from sqlalchemy.engine import Engine
from textual.screen import Screen
from textual.widgets import Static

from tui.widgets import details, filter_bar
from tui.widgets.asset_list import AssetList

if TYPE_CHECKING:
    from conftest import Driver, Open


@pytest.fixture
def layouts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every layout of a whole screen."""
    found: list[str] = []
    lay_out = Screen._refresh_layout

    def counted(screen: Screen[Any], *given: Any, **more: Any) -> None:
        found.append(type(screen).__name__)
        lay_out(screen, *given, **more)

    monkeypatch.setattr(Screen, "_refresh_layout", counted)
    return found


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """Every question to the database."""
    found: list[str] = []

    def asked(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        found.append(statement)

    event.listen(Engine, "before_cursor_execute", asked)
    yield found
    event.remove(Engine, "before_cursor_execute", asked)


async def type_letter(program: Driver, letter: str) -> None:
    """Type it, and wait for its rows and their number, but for nothing that comes at rest."""
    line = program.app.screen.query_one(filter_bar.FilterInput)
    wanted = line.value + letter
    line.insert_text_at_cursor(letter)

    def is_shown() -> bool:
        listing = program.list._listing
        return listing is not None and listing.view.text == wanted and listing.total is not None

    await until(program.pilot, is_shown)


async def test_letters_lay_out_nothing_and_ask_little(
    open_program: Open,
    layouts: list[str],
    statements: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(filter_bar, "REFUSE_SECONDS", 0.005)
    async with open_program() as program:
        await program.filter("wrong:")
        assert program.app.screen.query_one("#filter-error", Static).display
        monkeypatch.setattr(filter_bar, "REFUSE_SECONDS", PATIENCE)
        monkeypatch.setattr(details, "TYPING_SECONDS", PATIENCE)
        program.app.screen.query_one(filter_bar.FilterInput).value = ""
        await until(program.pilot, lambda: program.list.count == 9)
        for letter in "ink":
            layouts.clear()
            statements.clear()
            await type_letter(program, letter)
            assert layouts == []
            assert len([each for each in statements if "SELECT" in each]) <= MOST_QUESTIONS
        assert not str(program.app.screen.query_one("#filter-error", Static).render())
        assert program.names() == ["ink wash"]


async def test_letters_that_bring_no_rows_also_put_off_the_details(
    open_program: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[object] = []
    load = details.Details.load

    def noted(self: details.Details, row: Any) -> None:
        waits.append(row)
        load(self, row)

    async with open_program() as program:
        program.app.screen.query_one(filter_bar.FilterInput).focus()
        monkeypatch.setattr(details, "TYPING_SECONDS", PATIENCE)
        monkeypatch.setattr(details.Details, "load", noted)
        await type_letter(program, "i")
        await until(program.pilot, lambda: waits[-1:] == [program.list.current])
        waits.clear()
        program.app.screen.query_one(filter_bar.FilterInput).insert_text_at_cursor(":")
        await until(program.pilot, lambda: waits == [program.list.current])


MOST_QUESTIONS = 6
"""The rows' numbers and what they tell, how many there can be, and how many there are."""


async def test_a_step_draws_two_lines_and_a_page_what_is_to_be_seen(
    open_program: Open, layouts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    draw = AssetList.draw

    def counted(self: AssetList, index: int, *given: Any) -> Any:
        drawn.append(index)
        return draw(self, index, *given)

    async with open_program((80, 18)) as program:
        monkeypatch.setattr(details, "SETTLE_SECONDS", PATIENCE)
        monkeypatch.setattr(AssetList, "draw", counted)
        height = program.list.size.height
        assert height < program.list.count
        layouts.clear()
        program.list.action_move(1)
        await until(program.pilot, lambda: len(drawn) >= 2)
        assert sorted(drawn) == [0, 1]
        drawn.clear()
        program.list.action_move_to_end()
        await until(program.pilot, lambda: program.list.count - 1 in drawn)
        assert len(drawn) <= height + 1
        assert layouts == []


async def test_the_footer_shows_whole_keys_only_at_any_width(open_program: Open) -> None:
    async with open_program() as program:

        def ends(width: int) -> bool:
            edges = [key.region.right for key in program.app.screen.query("FooterKey")]
            return bool(edges) and width - LONGEST_KEY < max(edges) <= width + 1

        for width in (80, 33, 57, 121):
            await program.pilot.resize_terminal(width, 24)
            await program.until(partial(ends, width))


LONGEST_KEY = 12
"""In cells; one more would have had room otherwise."""
