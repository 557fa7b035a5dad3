"""Sections of labelled values, wrapped with hanging indentation to whatever width there is."""

from __future__ import annotations

from textual.content import Content
from textual.geometry import Size
from textual.reactive import reactive

from tui.faults import Part
from tui.sections import Section
from tui.text import fit, plain

LABEL_CELLS = 12


class Facts(Part):
    """Shows sections; as high as they need."""

    sections: reactive[tuple[Section, ...]] = reactive((), layout=True)

    def __init__(self, sections: tuple[Section, ...] = (), *, id: str | None = None) -> None:  # noqa: A002 - Textual's word
        super().__init__(id=id)
        self.set_reactive(Facts.sections, sections)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Lines at this width."""
        return len(self._lines(width))

    def render(self) -> Content:
        """All sections."""
        return Content("\n").join(self._lines(self.size.width))

    def _lines(self, width: int) -> list[Content]:
        width = max(width, 1)
        lines: list[Content] = []
        for section in self.sections:
            if lines:
                lines.append(Content(""))
            if section.title:
                lines += Content.styled(plain(section.title), "$primary bold").wrap(width)
            for label, value in section.rows:
                lines += _row(label, value, width)
        return lines


def _row(label: str, value: Content, width: int) -> list[Content]:
    room = max(width - LABEL_CELLS, 8)
    wrapped = [line for part in value.split("\n") for line in part.wrap(room)] or [Content("")]
    margins = [plain(label), *[""] * (len(wrapped) - 1)]
    return [
        Content.assemble((fit(margin, LABEL_CELLS), "$dim"), line)
        for margin, line in zip(margins, wrapped, strict=True)
    ]
