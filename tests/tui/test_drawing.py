"""What of a screen is drawn anew, and when garbage is looked for."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

import pytest
from helpers.waiting import until
from textual._compositor import Compositor
from textual.geometry import Region
from textual.screen import Screen
from textual.widget import Widget

from converters.errors import NotAvailable
from tui import garbage
from tui.commands import Commands
from tui.garbage import Garbage
from tui.widgets.details import Details
from tui.widgets.filter_bar import FilterInput

if TYPE_CHECKING:
    from conftest import Open


async def test_what_is_drawn_of_changes_is_what_textual_draws(open_program: Open) -> None:
    async with open_program() as program:
        screen = program.app.screen
        places = screen._compositor.visible_widgets.values()
        shown = [part for region, clip in places if (part := region.intersection(clip))]
        inner = Region(30, 5, 60, 3)
        for changed in [{each} for each in shown] + [{shown[0], inner}, {inner, shown[-2]}]:
            ours = written(screen, changed, type(screen._compositor))
            assert ours == written(screen, changed, Compositor)


def written(screen: Screen[None], changed: set[Region], way: type[Compositor]) -> str:
    """What goes to the terminal when these parts of a screen have changed."""
    screen._compositor._dirty_regions = set(changed)
    update = way.render_partial_update(screen._compositor)
    assert update is not None
    return update.render_segments(screen.app.console)


async def test_a_letter_and_its_rows_draw_nothing_of_the_details(
    open_program: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: set[type[Widget]] = set()
    render_lines = Widget.render_lines

    def noted(self: Widget, crop: Region) -> object:
        drawn.update(type(widget) for widget in self.ancestors_with_self)  # type: ignore[misc]
        return render_lines(self, crop)

    async with open_program() as program:
        line = program.app.screen.query_one(FilterInput)
        line.focus()
        await program.rest()
        monkeypatch.setattr("tui.widgets.details.TYPING_SECONDS", 600)
        monkeypatch.setattr(Widget, "render_lines", noted)
        line.insert_text_at_cursor("i")
        await until(program.pilot, lambda: FilterInput in drawn)
        assert Details not in drawn


@pytest.fixture
def without_looks() -> Iterator[None]:
    """A process as the program starts it; as it was, afterwards."""
    before = gc.get_threshold()
    gc.disable()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)
    gc.enable()


@pytest.mark.usefixtures("without_looks")
async def test_garbage_waits_until_keys_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "REST_SECONDS", 600)
    looks = Garbage()
    looks.put_off()
    assert not gc.isenabled()
    looks.begin()
    assert gc.get_threshold()[0] == garbage.NEW_OBJECTS
    looks.put_off()
    assert gc.get_threshold()[0] == garbage.MOST_NEW
    monkeypatch.setattr(garbage, "REST_SECONDS", 0)
    looks.put_off()
    while gc.get_threshold()[0] != garbage.NEW_OBJECTS:
        await asyncio.sleep(0)


@pytest.mark.usefixtures("without_looks")
async def test_garbage_is_looked_for_where_the_library_cannot_be_counted(
    open_program: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kinds(_: Commands) -> NoReturn:
        raise NotAvailable("the library is busy")

    monkeypatch.setattr(Commands, "kinds", kinds)
    async with open_program() as program:
        await program.rest()
        assert gc.isenabled()


async def test_who_starts_with_looks_keeps_them_as_they_are() -> None:
    before = gc.get_threshold()
    looks = Garbage()
    looks.begin()
    looks.put_off()
    assert gc.get_threshold() == before
