"""Which way this terminal shows pictures, and reading one picture for it.

textual-image asks the terminal at import, so `image_widget` must be called before the application
takes the terminal over, from the main thread.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from textual_image.widget import Image as ImageWidget

LONGEST_SIDE = 512
"""Pixels kept of a picture: more than any terminal shows, little enough to hold."""
_MOST_PIXELS = 1 << 26


def image_widget() -> type[ImageWidget]:
    """The widget for this terminal: its own graphics where it has them, else half cells.

    Inside tmux and screen half cells are used always: sixels flicker and leave ghosts there.
    """
    from textual_image.widget import HalfcellImage, Image, UnicodeImage

    multiplexed = "TMUX" in os.environ or os.environ.get("TERM", "").startswith("screen")
    on_terminal = sys.__stdout__ is not None and sys.__stdout__.isatty()
    poor = multiplexed or not on_terminal or issubclass(Image, UnicodeImage)
    chosen: type[ImageWidget] = HalfcellImage if poor else Image
    return chosen


def read_picture(path: str) -> Picture | None:
    """A picture with its longest side within `LONGEST_SIDE`, or None if it cannot be read.

    Blocks while it decodes: call it in a thread. A picture so large that decoding it would eat the
    memory counts as unreadable.
    """
    from PIL import Image

    try:
        with Image.open(Path(path)) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                return None
            picture.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
            small = picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return small
