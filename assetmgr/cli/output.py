"""The only door to stdout: one JSON document, or lines for people."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence

from assetmgr.text import plain
from converters.errors import WriteProblem


class StdoutFailed(WriteProblem):
    """Results cannot be written to stdout, for example because it goes to a full disk."""

    code = "stdout_failed"


class Output:
    """Where results go; `as_json` decides which of the two forms a command gives."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def document(self, value: object) -> None:
        """The one JSON document of this run."""
        _write(_json(value))

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


def on_terminal() -> bool:
    """Whether the terminal UI has one: it reads stdin and, as Textual does, draws on stderr."""
    return all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))


def _json(value: object) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    except ValueError:  # JSON has no word for what a failed check may have measured
        return _json(_finite(value))
    # File names that are not UTF-8 hold lone surrogates, which only an escape can carry.
    return text if _encodable(text) else json.dumps(value, indent=2)


def _finite(value: object) -> object:
    """The same document with null for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write(text: str) -> None:
    encoded = text.encode("utf-8", "backslashreplace")
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(encoded + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StdoutFailed(f"cannot be written: {error.strerror}", path="stdout") from error
