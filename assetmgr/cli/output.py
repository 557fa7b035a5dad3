"""The only door to stdout: one JSON document, or lines for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence

from assetmgr.cli.text import plain


class Output:
    """Where results go; `as_json` decides which of the two forms a command gives."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def document(self, value: object) -> None:
        """The one JSON document of this run."""
        _write(json.dumps(value, ensure_ascii=False, indent=2))

    def line(self, text: str = "") -> None:
        """A line of our own words; what files or networks say must have gone through `plain`."""
        _write(text)

    def fields(self, pairs: Iterable[tuple[str, str]], indent: str = "") -> None:
        """Labels and values below each other; empty values are left out."""
        shown = [(label, value) for label, value in pairs if value]
        width = max((len(label) for label, _ in shown), default=0)
        for label, value in shown:
            _write(f"{indent}{label:<{width}}  {plain(value)}")

    def table(self, heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Aligned columns; cells are measured as the terminal shows them."""
        from rich.cells import cell_len

        cells = [list(heading), *([plain(cell) for cell in row] for row in rows)]
        widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            padded = (
                cell + " " * (width - cell_len(cell))
                for cell, width in zip(row, widths, strict=True)
            )
            _write("  ".join(padded).rstrip())


def _write(text: str) -> None:
    try:
        encoded = text.encode("utf-8")
    except UnicodeEncodeError:  # lone surrogates from odd file names
        encoded = text.encode("ascii", "backslashreplace")
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:
        sys.stdout.write(encoded.decode("utf-8") + "\n")
        return
    sys.stdout.flush()
    buffer.write(encoded + b"\n")
    buffer.flush()
