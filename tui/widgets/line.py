"""A line to type in that may begin with a text from outside."""

from __future__ import annotations

from typing import Any

from textual.widgets import Input

from tui.faults import Surviving
from tui.text import plain, unescaped


class Line(Surviving, Input):
    """Shows its first text as harmless as all others; `answer` has the characters it stood for.

    Textual writes a line's value to the terminal as it is, escape sequences and line breaks too.
    """

    def __init__(self, given: str = "", **more: Any) -> None:
        super().__init__(plain(given), select_on_focus=False, **more)
        self._given = given

    @property
    def answer(self) -> str:
        """What is typed."""
        return unescaped(self.value, self._given)

    def give(self, text: str) -> None:
        """Another text to begin with."""
        self._given = text
        self.value = plain(text)
