"""A picture in half cells: the upper half block, two pixels to a cell, on every terminal.

textual-image has such a widget too, but asks the terminal at import (slow links answer late, into
the keyboard), brings numpy, and reads pixels in a way Pillow is about to drop.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.strip import Strip

from tui.faults import Part

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


def half_cells(pixels: bytes, width: int, y: int) -> list[Segment]:
    """One line of cells: upper pixels in the foreground, lower ones in the background.

    `pixels` are RGB, row by row, `width` of them in a row. Equal cells beside each other are one
    segment, and equal colours one style: a grid of pictures has tens of thousands of cells.
    """
    upper, lower = 2 * y * width * 3, (2 * y + 1) * width * 3
    cells = (
        (pixels[upper + x : upper + x + 3], pixels[lower + x : lower + x + 3])
        for x in range(0, width * 3, 3)
    )
    return [Segment("▀" * sum(1 for _ in run), _style(*colours)) for colours, run in groupby(cells)]


@lru_cache(maxsize=8192)
def _style(upper: bytes, lower: bytes) -> Style:
    return Style.from_color(Color(*upper).rich_color, Color(*lower).rich_color)


class HalfCells(Part):
    """Draws `image` stretched over its whole size; whoever sets the size keeps the proportions."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's word
        super().__init__(id=id)
        self._image: Picture | None = None
        self._pixels: tuple[tuple[int, int], bytes] = ((0, 0), b"")

    @property
    def image(self) -> Picture | None:
        """The picture, in RGB."""
        return self._image

    @image.setter
    def image(self, picture: Picture | None) -> None:
        self._image = picture
        self._pixels = ((0, 0), b"")
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line of the picture."""
        width, height = self.size
        if self._image is None or not width or not 0 <= y < height:
            return Strip.blank(width)
        return Strip(half_cells(self._scaled(width, 2 * height), width, y), width)

    def _scaled(self, width: int, height: int) -> bytes:
        if self._pixels[0] != (width, height) and self._image is not None:
            self._pixels = ((width, height), self._image.resize((width, height)).tobytes())
        return self._pixels[1]
