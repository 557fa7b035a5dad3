"""The picture of the selected asset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from tui.images import MakePicture

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


class Thumbnail(Widget):
    """A picture in a frame, as large as the frame allows, or a sentence why there is none."""

    def __init__(self, make_picture: MakePicture) -> None:
        super().__init__()
        self._picture = make_picture()

    def compose(self) -> ComposeResult:
        """The picture and the sentence; one of them is shown."""
        self._picture.display = False
        yield self._picture
        yield Static(id="no-picture")

    def show(self, picture: Picture | None, otherwise: str) -> None:
        """Show a picture, or a sentence."""
        sentence = self.query_one("#no-picture", Static)
        sentence.display = picture is None
        if str(sentence.content) != otherwise:  # an update costs a layout of the whole screen
            sentence.update(Content(otherwise))
        self._picture.display = picture is not None
        self._picture.image = picture
        self._fit()

    def on_resize(self) -> None:
        """The frame has another size."""
        self._fit()

    def _fit(self) -> None:
        picture = self._picture.image
        if picture is not None and self.size:
            width, height = cells(picture.size, (self.size.width, self.size.height))
            self._picture.styles.width, self._picture.styles.height = width, height


def cells(pixels: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    """Columns and rows for a picture in a frame of cells that are twice as high as wide.

    >>> cells((512, 512), (40, 14)), cells((512, 256), (18, 8))
    ((28, 14), (18, 4))
    """
    width, height = pixels
    scale = min(frame[0] / width, frame[1] * 2 / height)
    return max(round(width * scale), 1), max(round(height * scale / 2), 1)
