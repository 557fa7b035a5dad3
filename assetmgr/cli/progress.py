"""Progress of operations as bars on stderr, only when a person is watching."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from assetmgr.cli.failures import warn
from assetmgr.text import plain
from converters.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import ProgressColumn, TaskID


class TerminalProgress(Progress):
    """One bar for the current stage; use as a context manager."""

    def __init__(self, *, quiet: bool, verbose: bool) -> None:
        self._shown = not quiet and _is_watched()
        self._verbose = verbose and not quiet
        self._bars: Bars | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
        """Replace the bar by that of the new stage."""
        if not self._shown:
            return
        from rich.markup import escape

        bars = self._started()
        self.end_stage()
        self._task = bars.add_task(escape(plain(label)), total=total)

    def end_stage(self) -> None:
        """Take the bar away."""
        if self._bars is not None and self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None

    def advance(self, amount: int = 1) -> None:
        """Move the bar."""
        if self._bars is not None and self._task is not None:
            self._bars.advance(self._task, amount)

    def message(self, text: str) -> None:
        """A line above the bar, with --verbose."""
        if not self._verbose:
            return
        if self._bars is None:
            warn(plain(text))
        else:
            from rich.markup import escape

            self._bars.console.print(escape(plain(text)))

    def _started(self) -> Bars:
        if self._bars is None:
            from rich.console import Console
            from rich.progress import Progress as Bars

            self._bars = Bars(*self._columns(), console=Console(stderr=True), transient=True)
            self._bars.start()
        return self._bars

    def _columns(self) -> tuple[ProgressColumn, ...]:
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

        return (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
        )


def _is_watched() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
