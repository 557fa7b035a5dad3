"""Contact sheets: pictures in rows and columns under labels that can be read.

The font is the one inside of Pillow (Aileron, Latin letters), so that nothing must be installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

SMALLEST_CELL = 256
"""Edge in pixels up to which small pictures are enlarged, so that labels fit above them."""
LARGEST_SHEET = 8192
"""Longest side of a sheet in pixels; cells shrink to fit."""
_PAPER, _INK, _NOTHING = "white", "black", (208, 208, 208)
_GAP = 8
_LINES = 4

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class _Layout:
    """Sizes in pixels: of a cell, of the headings, and of the margin for the labels of rows."""

    cell: tuple[int, int]
    heading: int
    margin: int
    font: Font
    line: int


def draw_sheet(
    pictures: Sequence[Image.Image | None], columns: Sequence[str], rows: Sequence[str]
) -> Image.Image:
    """Pictures row by row under the labels of columns and rows; None is an empty cell.

    Empty labels take no room.
    """
    layout = _layout(pictures, columns, rows)
    width, height = layout.cell
    size = (
        layout.margin + len(columns) * (width + _GAP) + _GAP,
        layout.heading + len(rows) * (height + _GAP) + _GAP,
    )
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, text in enumerate(columns):
        left = layout.margin + _GAP + number * (width + _GAP)
        _write(pen, text, layout, (left, _GAP, width))
    for number, text in enumerate(rows):
        top = layout.heading + _GAP + number * (height + _GAP)
        _write(pen, text, layout, (_GAP, top, layout.margin - _GAP))
    for number, picture in enumerate(pictures):
        row, column = divmod(number, len(columns))
        left = layout.margin + _GAP + column * (width + _GAP)
        top = layout.heading + _GAP + row * (height + _GAP)
        sheet.paste(_cell(picture, layout.cell), (left, top))
    return sheet


def _layout(
    pictures: Sequence[Image.Image | None], columns: Sequence[str], rows: Sequence[str]
) -> _Layout:
    width, height = _cell_size(pictures, len(columns), len(rows))
    size = max(14, min(width, height) // 16)
    font = ImageFont.load_default(size)
    line = round(size * 1.3)
    margin = round(width * 0.75) if any(rows) else 0
    lines = max((len(_wrapped(text, font, width)) for text in columns if text), default=0)
    return _Layout((width, height), lines * line + (_GAP if lines else 0), margin, font, line)


def _cell_size(pictures: Sequence[Image.Image | None], columns: int, rows: int) -> tuple[int, int]:
    """That of the largest picture, whole times enlarged when small, or shrunk to fit the sheet."""
    sizes = [picture.size for picture in pictures if picture is not None]
    width = max((size[0] for size in sizes), default=SMALLEST_CELL)
    height = max((size[1] for size in sizes), default=SMALLEST_CELL)
    factor = float(max(1, SMALLEST_CELL // max(width, height)))
    for count, edge in ((columns + 1, width), (rows + 1, height)):
        factor = min(factor, (LARGEST_SHEET - _GAP * (count + 1)) / (count * edge))
    return max(1, round(width * factor)), max(1, round(height * factor))


def _cell(picture: Image.Image | None, size: tuple[int, int]) -> Image.Image:
    if picture is None:
        return Image.new("RGB", size, _NOTHING)
    enlarged = size[0] >= picture.width
    how = Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
    return picture.resize(size, how)


def _write(
    pen: ImageDraw.ImageDraw, text: str, layout: _Layout, room: tuple[int, int, int]
) -> None:
    left, top, width = room
    for number, line in enumerate(_wrapped(text, layout.font, width) if text else ()):
        pen.text((left, top + number * layout.line), line, fill=_INK, font=layout.font)


def _wrapped(text: str, font: Font, width: int) -> list[str]:
    """A text in lines of at most `width` pixels, broken between words, else within one."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        for piece in _pieces(word, font, width):
            longer = f"{line} {piece}" if line else piece
            if line and font.getlength(longer) > width:
                lines.append(line)
                line = piece
            else:
                line = longer
    lines = [*lines, line] if line else lines
    return lines if len(lines) <= _LINES else [*lines[: _LINES - 1], lines[_LINES - 1] + " ..."]


def _pieces(word: str, font: Font, width: int) -> list[str]:
    """A word, or parts of it that fit where it is too long for a line."""
    pieces: list[str] = []
    piece = ""
    for letter in word:
        if piece and font.getlength(piece + letter) > width:
            pieces.append(piece)
            piece = letter
        else:
            piece += letter
    return [*pieces, piece]
