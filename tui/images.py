"""Which way this terminal shows pictures, and reading one picture for it.

textual-image asks the terminal at import, so `picture_widget` must be called before the application
takes the terminal over, from the main thread.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tui.widgets.half_cells import HalfCells

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

LONGEST_SIDE = 512
"""Pixels kept of a picture: more than any terminal shows, little enough to hold."""
_MOST_PIXELS = 1 << 26

_TERMS = ("xterm-kitty", "xterm-ghostty", "foot", "mlterm", "contour", "wezterm", "rio")
_PROGRAMS = frozenset({"WezTerm", "ghostty", "iTerm.app", "rio", "mintty", "vscode", "contour"})
_VARIABLES = ("KITTY_WINDOW_ID", "KONSOLE_VERSION", "WEZTERM_PANE", "WT_SESSION")
"""Values of TERM and TERM_PROGRAM, and variables, of terminals that draw pictures."""

MakePicture = Callable[[], HalfCells]
"""Makes the widget of a picture; those of textual-image have the same property `image`."""


def picture_widget(images: str) -> MakePicture | None:
    """What draws pictures in this terminal, by the setting `images`; None for `off`.

    `graphics` asks the terminal for graphics of its own, `auto` asks only a terminal that is known
    to have them: asking costs a third of a second where nobody answers. All else gets half cells,
    as does whatever runs inside of tmux and screen: sixels flicker and leave ghosts there.
    """
    if images == "off":
        return None
    multiplexed = "TMUX" in os.environ or os.environ.get("TERM", "").startswith("screen")
    on_terminal = sys.__stdout__ is not None and sys.__stdout__.isatty()
    if images == "halfblock" or multiplexed or not on_terminal:
        return HalfCells
    if images == "auto" and not draws_graphics(os.environ):
        return HalfCells
    return _graphics() or HalfCells


def draws_graphics(environment: Mapping[str, str]) -> bool:
    """Whether the terminal calls itself by a name of one that has Kitty's graphics or Sixel."""
    name = environment.get("TERM", "")
    return (
        any(name.startswith(known) for known in _TERMS)
        or environment.get("TERM_PROGRAM") in _PROGRAMS
        or any(variable in environment for variable in _VARIABLES)
    )


def _graphics() -> MakePicture | None:
    """The widget for the terminal's own graphics, None where it has none."""
    from textual_image.renderable import Image as Best
    from textual_image.renderable import SixelImage, TGPImage
    from textual_image.widget import Image

    make: MakePicture = Image
    return make if issubclass(Best, SixelImage | TGPImage) else None


def read_picture(path: str, longest_side: int = LONGEST_SIDE) -> Picture | None:
    """A picture with its longest side within so many pixels, or None if it cannot be read.

    Blocks while it decodes: call it in a thread. A picture so large that decoding it would eat the
    memory counts as unreadable.
    """
    from PIL import Image

    try:
        with Image.open(Path(path)) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                return None
            picture.draft("RGB", (longest_side, longest_side))
            small = picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    small.thumbnail((longest_side, longest_side))
    return small
