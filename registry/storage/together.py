"""Calls of several threads at once, done in one step: the group commit of databases.

A transaction costs much the same for one file as for eight. Whoever comes while one is at work
waits, and the next who has its turn does the work of all who wait (D. DeWitt et al.,
"Implementation techniques for main memory database systems", 1984).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

_A = TypeVar("_A")
_R = TypeVar("_R")


class _Call(Generic[_A, _R]):
    """What one thread wants, and its result once somebody has it."""

    def __init__(self, wanted: _A) -> None:
        self.wanted = wanted
        self.results: list[_R] = []


class Together(Generic[_A, _R]):
    """A function of one thing, made of one of many; call it from any number of threads."""

    def __init__(self, do: Callable[[Sequence[_A]], Sequence[_R]]) -> None:
        self._do = do
        self._turn = threading.Lock()
        self._list = threading.Lock()
        self.waiting: list[_Call[_A, _R]] = []

    def __call__(self, wanted: _A) -> _R:
        """The result for one. Raises only what `do` raises for this one alone."""
        call: _Call[_A, _R] = _Call(wanted)
        with self._list:
            self.waiting.append(call)
        with self._turn:
            if not call.results:
                self._work(call)
        return call.results[0]

    def _work(self, mine: _Call[_A, _R]) -> None:
        """Do what waits. What fails together, each who has its turn tries alone."""
        with self._list:
            others = [call for call in self.waiting if call is not mine]
            self.waiting.clear()
        if others:
            try:
                self._finish([mine, *others])
            except Exception:  # noqa: BLE001, S110 - whose fault it is shows alone
                pass
            else:
                return
        self._finish([mine])

    def _finish(self, calls: Sequence[_Call[_A, _R]]) -> None:
        results = self._do([call.wanted for call in calls])
        for call, result in zip(calls, results, strict=True):
            call.results.append(result)
