"""Computed tensors made in worker threads, a bounded number of bytes ahead of the writing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from converters.errors import AssetmgrError
from converters.statedict import Buffer, LazyTensor

WINDOW_BYTES = 16 << 20
"""Bytes of computed tensors held at a time (always at least one tensor)."""
_WORKERS = 2


class Computer:
    """Gives the bytes of computed tensors in the order in which it was given these."""

    def __init__(self, tensors: Iterable[LazyTensor]) -> None:
        self._waiting = deque(tensors)
        self._running: deque[tuple[LazyTensor, Future[Buffer]]] = deque()
        self._held = 0
        self._pool = ThreadPoolExecutor(_WORKERS, "compute") if self._waiting else None

    def __enter__(self) -> Self:
        self._start_more()
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    @property
    def is_ready(self) -> bool:
        """Whether the next tensor need not be waited for."""
        return bool(self._running) and self._running[0][1].done()

    def next(self) -> Buffer:
        """The bytes of the next tensor. Raises what computing it raises."""
        self._start_more()
        tensor, future = self._running.popleft()
        self._held -= tensor.nbytes
        data = future.result()
        if memoryview(data).nbytes != tensor.nbytes:
            raise AssetmgrError(
                f"computed {memoryview(data).nbytes} bytes where {tensor.nbytes} belong",
                path=tensor.origin,
            )
        return data

    def _start_more(self) -> None:
        while self._waiting and self._pool is not None:
            tensor = self._waiting[0]
            if self._running and self._held + tensor.nbytes > WINDOW_BYTES:
                return
            self._held += tensor.nbytes
            self._running.append((tensor, self._pool.submit(tensor.read)))
            self._waiting.popleft()
