"""How long operations report and how they are cancelled: one argument, no global state.

An operation calls `stage` when a new countable piece of work begins and `advance` as it goes.
`advance` is also the point where a cancellation surfaces: a subclass raises `Cancelled` from it.
The base class ignores everything and is what library callers get by default.
All calls of one operation come from the thread that runs the operation.
"""

from __future__ import annotations

import threading

from converters.errors import Cancelled


class Progress:
    """Receives what an operation does; this base class is silent and never cancels."""

    def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
        """Begin a countable piece of work: `total` in `unit` ("B" bytes, else a plural noun)."""

    def advance(self, amount: int = 1) -> None:
        """`amount` more units of the stage are done. Raises Cancelled when asked to stop."""

    def message(self, text: str) -> None:
        """Something worth a line that is not a result (a skipped file, a retry)."""


class CancellableProgress(Progress):
    """A progress that another thread can cancel."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Ask the operation to stop at its next `advance`."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether a stop was asked for."""
        return self._cancelled.is_set()

    def advance(self, amount: int = 1) -> None:
        """Raises Cancelled once `cancel` was called."""
        if self._cancelled.is_set():
            raise Cancelled


SILENT = Progress()
"""The default: nothing is shown, nothing is cancelled."""
