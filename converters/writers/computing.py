"""Jobs done in worker threads, a bounded number of bytes ahead of who waits for their results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from converters.errors import AssetmgrError
from converters.lanes import processors
from converters.statedict import Buffer, LazyTensor

WINDOW_BYTES = 16 << 20
"""Bytes of computed tensors held at a time (always at least one tensor)."""

MOST_WORKERS = 4
"""Each holds the tensors that it computes with: 60 MB for SDXL and three LoRAs of rank 128."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job(Generic[T]):
    """What a worker does, and how many bytes it holds until it is asked for."""

    nbytes: int
    run: Callable[[], T]


def computed(tensor: LazyTensor) -> Buffer:
    """The bytes of a tensor. Raises what computing it raises."""
    data = tensor.read()
    require_size(tensor, memoryview(data).nbytes)
    return data


def require_size(tensor: LazyTensor, nbytes: int) -> None:
    """Raises AssetmgrError when a tensor gave more or fewer bytes than it has."""
    if nbytes != tensor.nbytes:
        raise AssetmgrError(
            f"computed {nbytes} bytes where {tensor.nbytes} belong", path=tensor.origin
        )


class Computer(Generic[T]):
    """Gives the results of jobs in the order in which it was given these."""

    def __init__(self, jobs: Iterable[Job[T]]) -> None:
        self._waiting = deque(jobs)
        self._running: deque[tuple[Job[T], Future[T]]] = deque()
        self._held = 0
        self._pool = ThreadPoolExecutor(_workers(), "compute") if self._waiting else None

    def __enter__(self) -> Self:
        self._start_more()
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    @property
    def is_ready(self) -> bool:
        """Whether the next result need not be waited for."""
        return bool(self._running) and self._running[0][1].done()

    def next(self) -> T:
        """The next result. Raises what the job raises."""
        self._start_more()
        job, future = self._running.popleft()
        self._held -= job.nbytes
        return future.result()

    def _start_more(self) -> None:
        while self._waiting and self._pool is not None:
            job = self._waiting[0]
            if self._running and self._held + job.nbytes > WINDOW_BYTES:
                return
            self._held += job.nbytes
            self._running.append((job, self._pool.submit(job.run)))
            self._waiting.popleft()


def _workers() -> int:
    """One for each processor; two where there is one, for the other may wait for the disk."""
    return max(2, min(processors(), MOST_WORKERS))
