"""A screen as text: its lines, and under them which style each run of cells has.

Small enough to keep every screen at every size, and a change of one word is a change of one line.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode
from textual.app import App


class ScreenText(SingleFileSnapshotExtension):
    """One text file for each screen and size."""

    file_extension = _file_extension = "txt"
    _write_mode = WriteMode.TEXT


def screen_text(app: App[Any]) -> str:
    """The screen on top; not what is behind a dialog, which is laid out when it finds the time."""
    update = app.screen._compositor.render_update(full=True)
    names: dict[str, str] = {}
    lines, styles = [], []
    for line in update.strips:
        segments = [segment for strip in line for segment in strip]
        lines.append("".join(segment.text for segment in segments).rstrip())
        runs = [(str(segment.style or ""), len(segment.text)) for segment in segments]
        styles.append(" ".join(_run(names, style, cells) for style, cells in _joined(runs)))
    legend = [f"{name}: {style}" for style, name in names.items()]
    return "\n".join([*lines, "", *styles, "", *legend, ""])


def _joined(runs: list[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    for style, same in groupby(runs, key=lambda run: run[0]):
        yield style, sum(cells for _, cells in same)


def _run(names: dict[str, str], style: str, cells: int) -> str:
    name = names.setdefault(style, _letters(len(names)))
    return f"{cells}{name}"


def _letters(number: int) -> str:
    """a, b, … z, ba, bb, …

    >>> _letters(0), _letters(27)
    ('a', 'bb')
    """
    last = chr(97 + number % 26)
    return last if number < 26 else _letters(number // 26) + last
