"""Memory for numbers that is lent again and again.

New memory is several times as slow: the system has to find and empty every page of it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from converters.devices import CPU, device

if TYPE_CHECKING:
    import torch

_KEPT_BYTES = 4 << 20
_KEPT_FLOATS = 16 << 20
"""Bytes, and those of numbers in float32; what is larger is let go."""

_thread = threading.local()


class Spare:
    """Memory for float32 that any thread borrows for a while."""

    _MOST = 6

    def __init__(self) -> None:
        self._free: list[torch.Tensor] = []
        self._lock = threading.Lock()

    @contextmanager
    def lent(self, *counts: int) -> Iterator[list[torch.Tensor]]:
        """So many numbers each, for a while, on the device that is computed on."""
        if device() != CPU:
            yield [_new(count) for count in counts]
            return
        own = [self._take(count) for count in counts]
        try:
            yield [memory[:count] for memory, count in zip(own, counts, strict=True)]
        finally:
            for memory in own:
                self._give(memory)

    def _take(self, count: int) -> torch.Tensor:
        """The least that suffices, or new memory."""
        with self._lock:
            for number, memory in enumerate(self._free):
                if memory.numel() >= count:
                    return self._free.pop(number)
        return _new(count)

    def _give(self, memory: torch.Tensor) -> None:
        with self._lock:
            self._free.append(memory)
            self._free.sort(key=lambda each: each.numel())
            del self._free[: -self._MOST]


def floats_at(place: int, count: int) -> torch.Tensor:
    """So many numbers in float32, in memory that the thread's next call for a place uses again.

    New memory would be given back and touched for the first time again and again.
    """
    if device() != CPU:
        return _new(count)
    places: dict[int, torch.Tensor] = _thread.__dict__.setdefault("floats", {})
    if place in places and places[place].numel() >= count:
        return places[place][:count]
    memory = _new(count)
    if memory.nbytes <= _KEPT_FLOATS:
        places[place] = memory
    return memory


def scratch(nbytes: int, place: int) -> memoryview:
    """So many bytes of memory that the thread's next call for a place uses again."""
    places: dict[int, bytearray] = _thread.__dict__.setdefault("places", {})
    if place in places and len(places[place]) >= nbytes:
        return memoryview(places[place])[:nbytes]
    memory = bytearray(nbytes)
    if nbytes <= _KEPT_BYTES:
        places[place] = memory
    return memoryview(memory)


def pinned_scratch(nbytes: int) -> memoryview | None:
    """As `scratch`, in memory that stays where it is; None for more than is kept, or than there is.

    Whoever copies from it waits for the end of that, so it can be used again.
    """
    import torch

    if nbytes > _KEPT_BYTES:
        return None
    if not hasattr(_thread, "pinned"):
        try:
            _thread.pinned = torch.empty(_KEPT_BYTES, dtype=torch.uint8, pin_memory=True)
        except RuntimeError:
            return None
    return memoryview(_thread.pinned.numpy())[:nbytes]


def _new(count: int) -> torch.Tensor:
    import torch

    return torch.empty(count, dtype=torch.float32, device=device())
