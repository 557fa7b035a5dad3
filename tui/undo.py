"""Changes that can be taken back, the last one first."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from tui.bridge import Work

MOST = 100


@dataclass(frozen=True, slots=True)
class Undo:
    """What was changed, and how it is taken back; `as_job` where that may take a while."""

    what: str
    back: Work
    as_job: bool


class Undos:
    """The changes of this session; noted from threads, taken back from the screen."""

    def __init__(self) -> None:
        self._changes: list[Undo] = []
        self._lock = threading.Lock()

    def now(self, what: str, back: Callable[[], object]) -> None:
        """Note a change that is taken back in no time."""

        def work(_progress: object, /) -> str:
            back()
            return f"{what} taken back"

        self._note(Undo(what, work, as_job=False))

    def later(self, what: str, back: Work) -> None:
        """Note a change that is taken back by a job."""
        self._note(Undo(what, back, as_job=True))

    def _note(self, change: Undo) -> None:
        with self._lock:
            self._changes.append(change)
            del self._changes[:-MOST]

    def take(self) -> Undo | None:
        """The last change, which is then forgotten."""
        with self._lock:
            return self._changes.pop() if self._changes else None
