"""The picture of the selected asset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from tui.faults import Part
from tui.images import MakePicture

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


class Thumbnail(Part):
    """A picture in a frame with words under it, or a sentence why there is none."""

    def __init__(self, make_picture: MakePicture) -> None:
        super().__init__()
        self._picture = make_picture()

    def compose(self) -> ComposeResult:
        """The picture and the words; a render needs none."""
        self._picture.display = False
        yield self._picture
        yield Static(id="no-picture")

    def show(self, picture: Picture | None, words: str) -> None:
        """Show a picture over words, if any, or the words alone."""
        sentence = self.query_one("#no-picture", Static)
        sentence.display = bool(words)
        if str(sentence.content) != words:  # an update costs a layout of the whole screen
            sentence.update(Content(words))
        self._picture.display = picture is not None
        self._picture.image = picture
        self._fit()

    def on_resize(self) -> None:
        """The frame has another size."""
        self._fit()

    def _fit(self) -> None:
        picture = self._picture.image
        if picture is not None and self.size:
            words = str(self.query_one("#no-picture", Static).content)
            lines = max(self.size.height - len(words.splitlines()), 1)
            width, height = cells(picture.size, (self.size.width, lines))
            self._picture.styles.width, self._picture.styles.height = width, height


def cells(pixels: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    """Columns and rows for a picture in a frame of cells that are twice as high as wide.

    >>> cells((512, 512), (40, 14)), cells((512, 256), (18, 8))
    ((28, 14), (18, 4))
    """
    width, height = pixels
    scale = min(frame[0] / width, frame[1] * 2 / height)
    return max(round(width * scale), 1), max(round(height * scale / 2), 1)
