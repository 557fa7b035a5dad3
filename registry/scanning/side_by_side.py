"""Small files hashed side by side by threads, while others are still looked into.

The hash functions leave the interpreter to the other threads; large files use several threads each
and are better hashed one after the other. While files are looked into, that has a processor of its
own: their names are to be seen soon.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import takewhile
from threading import Semaphore
from types import TracebackType
from typing import NamedTuple, Self

from converters.errors import FileProblem
from converters.hashing import SMALL_BYTES
from converters.progress import SILENT, Progress
from registry.scanning.looking import Waiting, read
from registry.scanning.scan_records import ScannedFile

WORKERS = min(4, os.cpu_count() or 1)


class Hashed(NamedTuple):
    """A file and what hashing it gave: `result` may be why it could not be read.

    A result has the problem with its content, which does not keep it from being recorded.
    """

    file: Waiting
    result: tuple[ScannedFile, FileProblem | None] | FileProblem


def is_small(file: Waiting) -> bool:
    """Whether one thread hashes a file."""
    return file.fingerprint.size <= SMALL_BYTES


def attempt(file: Waiting, progress: Progress) -> Hashed:
    """Hash a file; what is wrong with it is the result."""
    try:
        return Hashed(file, read(file, progress))
    except FileProblem as problem:
        return Hashed(file, problem)


class SideBySide:
    """Files on their way through the threads; use as a context manager, which ends them."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(WORKERS)
        self._turns = Semaphore(max(1, WORKERS - 1))
        self._running: deque[tuple[Waiting, Future[Hashed]]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def start(self, file: Waiting) -> None:
        """Hash a file as soon as a thread is free."""
        self._running.append((file, self._pool.submit(self._attempt, file)))

    @property
    def ready(self) -> int:
        """How many files `done` would give out."""
        return sum(1 for _ in takewhile(lambda pair: pair[1].done(), self._running))

    @property
    def nbytes(self) -> int:
        """Bytes of the files that were started and not given out yet."""
        return sum(file.fingerprint.size for file, _ in self._running)

    def done(self) -> Iterator[Hashed]:
        """What is finished by now, in the order in which it was started."""
        while self._running and self._running[0][1].done():
            yield self._running.popleft()[1].result()

    def rest(self) -> Iterator[Hashed]:
        """All that is left; waits for each. Nothing is looked into any more: all threads work."""
        if WORKERS > 1:
            self._turns.release()
        while self._running:
            yield self._running.popleft()[1].result()

    def _attempt(self, file: Waiting) -> Hashed:
        with self._turns:
            return attempt(file, SILENT)
