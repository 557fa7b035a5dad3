"""Containers that their children cover, drawn with as little as can be: nobody sees them.

Textual draws each as lines of its own and parts every one where a child begins; around the list
that was a third of a frame. All lines of a blank widget are one, which is parted once.
"""

from __future__ import annotations

from typing import ClassVar

from textual.containers import Horizontal, Vertical

from tui.faults import Surviving


class CoveredHorizontal(Surviving, Horizontal):
    """Children beside each other that leave no room."""

    BLANK: ClassVar[bool] = True


class CoveredVertical(Surviving, Vertical):
    """Children under each other that leave no room."""

    BLANK: ClassVar[bool] = True
