"""Small files hashed side by side, while others are still looked into.

A few are hashed by threads: the hash functions leave the interpreter to the others. For many there
are processes, one for each thread (`processes`). Large files use several threads each and are
better hashed one after the other. While files are looked into, that has a processor of its own:
their names are to be seen soon.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import takewhile
from threading import Semaphore
from types import TracebackType
from typing import NamedTuple, Self

from converters.errors import FileProblem
from converters.hashing import SMALL_BYTES
from converters.lanes import processors
from converters.progress import SILENT, Progress
from registry.scanning.looking import Waiting, read
from registry.scanning.processes import Processes
from registry.scanning.scan_records import ScannedFile

WORKERS = min(4, processors())
MANY = 1_000
"""So many files are worth processes, which hash more in the time that it takes to start them. On
one processor they only take turns, and memory."""
BATCH = 32
"""Files that a process is given at a time; who cancels a scan waits for so many."""


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

    def __init__(self, files: int) -> None:
        """For about so many `files` that are recorded before they are hashed."""
        self._pool = ThreadPoolExecutor(WORKERS)
        self._turns = Semaphore(max(1, WORKERS - 1))
        is_worth_it = files >= MANY and WORKERS > 1
        self._processes = Processes(WORKERS) if is_worth_it else None
        self._batch: list[Waiting] = []
        self._running: deque[tuple[Sequence[Waiting], Future[list[Hashed]]]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        if self._processes is not None:
            self._processes.close()

    def start(self, file: Waiting) -> None:
        """Hash a file as soon as a thread is free."""
        self._batch.append(file)
        if self._processes is None or len(self._batch) == BATCH:
            self._submit()

    @property
    def ready(self) -> int:
        """How many files `done` would give out."""
        done = takewhile(lambda pair: pair[1].done(), self._running)
        return sum(len(files) for files, _ in done)

    @property
    def nbytes(self) -> int:
        """Bytes of the files that were started and not given out yet."""
        started = [self._batch, *(files for files, _ in self._running)]
        return sum(file.fingerprint.size for files in started for file in files)

    def done(self) -> Iterator[Hashed]:
        """What is finished by now, in the order in which it was started."""
        while self._running and self._running[0][1].done():
            yield from self._running.popleft()[1].result()

    def rest(self) -> Iterator[Hashed]:
        """All that is left; waits for each. Nothing is looked into any more: all threads work."""
        self._submit()
        if WORKERS > 1:
            self._turns.release()
        while self._running:
            yield from self._running.popleft()[1].result()

    def _submit(self) -> None:
        files, self._batch = self._batch, []
        if not files:
            return
        self._running.append((files, self._pool.submit(self._attempt, files)))

    def _attempt(self, files: Sequence[Waiting]) -> list[Hashed]:
        with self._turns:
            if self._processes is None or not all(file.is_recorded for file in files):
                return [attempt(file, SILENT) for file in files]
            scanned = self._processes.read(files)
            return [
                attempt(file, SILENT) if found is None else Hashed(file, (found, None))
                for file, found in zip(files, scanned, strict=True)
            ]
