"""Pictures in half cells, and what happens to files that are no pictures."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from textual.app import App, ComposeResult

import tui.widgets.thumbnail
from tui.forms import Told
from tui.images import LONGEST_SIDE, draws_graphics, picture_widget, read_picture
from tui.screens.picture import PictureScreen
from tui.widgets.half_cells import HalfCells

if TYPE_CHECKING:
    from conftest import Open


def test_the_examples_of_the_thumbnail_hold() -> None:
    assert doctest.testmod(tui.widgets.thumbnail).failed == 0


def test_a_large_picture_is_read_small(tmp_path: Path) -> None:
    path = tmp_path / "wide.jpg"
    Image.new("RGB", (2000, 1000)).save(path)
    picture = read_picture(str(path))
    assert picture is not None
    assert picture.size == (LONGEST_SIDE, LONGEST_SIDE // 2)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_what_is_no_picture_reads_as_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "preview.png"
    path.write_bytes(content)
    assert read_picture(str(path)) is None
    assert read_picture(str(tmp_path / "gone.png")) is None


def test_the_setting_turns_pictures_off() -> None:
    assert picture_widget("off") is None


@pytest.mark.parametrize(
    ("environment", "draws"),
    [
        ({"TERM": "xterm-kitty"}, True),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, True),
        ({"TERM": "xterm-256color", "KONSOLE_VERSION": "230804"}, True),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, False),
        ({}, False),
    ],
)
def test_only_terminals_that_are_known_to_draw_are_asked(
    environment: dict[str, str], draws: bool
) -> None:
    assert draws_graphics(environment) is draws


@pytest.mark.parametrize("images", ["auto", "graphics", "halfblock"])
def test_without_a_terminal_pictures_are_half_cells(images: str) -> None:
    assert picture_widget(images) is HalfCells


class OnePicture(App[None]):
    """A picture of two colours, one above the other, in a single cell."""

    CSS = "HalfCells { width: 1; height: 1; }"

    def compose(self) -> ComposeResult:
        yield HalfCells()


async def test_a_cell_holds_an_upper_and_a_lower_pixel() -> None:
    app = OnePicture()
    async with app.run_test() as pilot:
        picture = Image.new("RGB", (1, 2), (255, 0, 0))
        picture.putpixel((0, 1), (0, 0, 255))
        widget = app.query_one(HalfCells)
        widget.image = picture
        await pilot.pause()
        (segment,) = widget.render_line(0)
        assert segment.text == "▀"
        assert segment.style is not None
        assert segment.style.color is not None
        assert segment.style.bgcolor is not None
        assert segment.style.color.get_truecolor() == (255, 0, 0)
        assert segment.style.bgcolor.get_truecolor() == (0, 0, 255)


async def test_who_turned_pictures_off_is_told_so_and_not_that_there_is_none(
    open_program: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.app.picture_widget", lambda _: picture_widget("off"))
    async with open_program() as tui:
        await tui.press("b")
        assert tui.toasts() == ["pictures are off (, changes that)"]


async def test_the_prompt_of_a_render_is_copied_from_its_picture(open_program: Open) -> None:
    async with open_program() as tui:
        await tui.press("b")
        await tui.until(lambda: isinstance(tui.app.screen, PictureScreen))
        await tui.press("Y")
        assert tui.app.clipboard == "a red circle"
        await tui.press("y")
        assert tui.app.clipboard.endswith("preview.png")


async def test_a_picture_that_was_not_rendered_has_no_prompt_to_copy(open_program: Open) -> None:
    async with open_program() as tui:
        told = Told("drawn", (), "drawn.png")
        await tui.app.push_screen(PictureScreen(tui.app._commands, HalfCells, told))
        assert "Y" not in tui.app.screen.active_bindings
        await tui.press("Y")
        assert tui.app.clipboard == ""
