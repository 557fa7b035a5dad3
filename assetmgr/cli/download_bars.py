"""What is on its way, as bars on stderr: each download, and all of them together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assetmgr.cli.progress import TerminalProgress
from assetmgr.text import duration, plain, size

if TYPE_CHECKING:
    from rich.progress import ProgressColumn, TaskID

    from assetmgr.operations.downloads.flow import FlowReading
    from assetmgr.operations.downloads.reading import Reading

_MOST_ROWS = 12
_LONGEST_LABEL = 48


class DownloadBars(TerminalProgress):
    """A bar for each download with its rate and the time left, and a last one for all."""

    def __init__(self, *, quiet: bool, verbose: bool) -> None:
        super().__init__(quiet=quiet, verbose=verbose)
        self._rows: dict[int, TaskID] = {}
        self._said: dict[int, str] = {}
        self._last_said = ""
        self._all: TaskID | None = None

    def watch(self, reading: Reading) -> None:
        """Show where a run is."""
        self._tell(reading)
        if not self._shown:
            return
        self.end_stage()
        self._drop({flow.id for flow in reading.running[:_MOST_ROWS]})
        for flow in reading.running[:_MOST_ROWS]:
            self._show_flow(flow)
        self._show_all(reading)

    def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
        """A bar for what comes before the downloads; those are shown by `watch`."""
        if self._all is None:
            super().stage(label, total, unit)

    def _tell(self, reading: Reading) -> None:
        for flow in reading.running:
            if flow.message and self._said.get(flow.id) != flow.message:
                self._said[flow.id] = flow.message
                if flow.message != self._last_said:  # a busy service says the same to all
                    self.message(flow.message)
                self._last_said = flow.message

    def _drop(self, running: set[int]) -> None:
        for number in self._rows.keys() - running:
            self._started().remove_task(self._rows.pop(number))

    def _show_flow(self, flow: FlowReading) -> None:
        if flow.id not in self._rows:
            self._rows[flow.id] = self._new_row()
        label = flow.label if flow.stage.startswith("downloading") else flow.stage
        self._show(self._rows[flow.id], label, flow.done, flow.total, flow.rate, flow.left)

    def _show_all(self, reading: Reading) -> None:
        if self._all is None:
            self._all = self._new_row()
        label = f"{reading.files_done} of {reading.files} files"
        total = reading.total or None
        self._show(self._all, label, reading.done, total, reading.rate, reading.left)

    def _new_row(self) -> TaskID:
        return self._started().add_task("", total=None, amount="", rate="", left="")

    def _show(
        self,
        row: TaskID,
        label: str,
        done: int,
        total: int | None,
        rate: float,
        left: float | None,
    ) -> None:
        from rich.markup import escape

        text = plain(label)
        if len(text) > _LONGEST_LABEL:
            text = f"…{text[1 - _LONGEST_LABEL :]}"
        self._started().update(
            row,
            description=escape(text),
            completed=done,
            total=total,
            amount=size(done) if total is None else f"{size(done)} of {size(total)}",
            rate=f"{size(round(rate))}/s" if rate else "",
            left="" if left is None else duration(left),
        )

    def _columns(self) -> tuple[ProgressColumn, ...]:
        from rich.progress import BarColumn, TextColumn

        return (
            TextColumn("{task.description}"),
            BarColumn(24),
            *(TextColumn(f"{{task.fields[{name}]}}") for name in ("amount", "rate", "left")),
        )
