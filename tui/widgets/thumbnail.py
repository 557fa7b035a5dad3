"""The picture of the selected asset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from textual_image.widget import Image as ImageWidget


class Thumbnail(Widget):
    """A picture in a frame of fixed size, or a sentence why there is none."""

    def __init__(self, image_widget: type[ImageWidget], *, id: str | None = None) -> None:  # noqa: A002 - Textual's word
        super().__init__(id=id)
        self._image = image_widget(id="picture")

    def compose(self) -> ComposeResult:
        """The picture and the sentence; one of them is shown."""
        self._image.display = False
        yield self._image
        yield Static(id="no-picture")

    def show(self, picture: Picture | None, otherwise: str = "") -> None:
        """Show a picture as large as the frame allows, or a sentence."""
        sentence = self.query_one("#no-picture", Static)
        sentence.display = picture is None
        sentence.update(Content(otherwise))
        self._image.display = picture is not None
        self._image.image = picture
        if picture is not None:
            width, height = _cells(picture.size, (self.size.width, self.size.height))
            self._image.styles.width, self._image.styles.height = width, height


def _cells(pixels: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    """Columns and rows for a picture in a frame of cells that are twice as high as wide."""
    width, height = pixels
    scale = min(frame[0] / width, frame[1] * 2 / height)
    return max(round(width * scale), 1), max(round(height * scale / 2), 1)
