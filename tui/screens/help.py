"""The keys and the filter language on one page, made from the key table."""

from __future__ import annotations

from tui import keymap
from tui.screens.reading import ReadingScreen
from tui.sections import Section, text

FILTERS = Section(
    "Filter words",
    (
        ("word", text("in name, tags, notes, trigger words, metadata")),
        ('"a phrase"', text("the words together")),
        ("kind:lora", text("also base: algorithm: tag: hash: path: verdict: safety:")),
        ("-tag:x", text("everything without")),
        ("size:>1gb", text("or <")),
        ("rating:>=3", text("from 0 to 5")),
        ("is:duplicate", text("also is:missing is:offline is:unsafe is:contradicted")),
    ),
)


class HelpScreen(ReadingScreen):
    """Every key with its meaning."""

    def __init__(self, groups: tuple[keymap.Group, ...] = keymap.GROUPS) -> None:
        keys = tuple(
            Section(group.title, tuple((key.shown, text(key.meaning)) for key in group.keys))
            for group in groups
        )
        super().__init__("Keys", (*keys, FILTERS))
