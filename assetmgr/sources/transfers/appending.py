"""Bytes at the end of a file: by the system's cache, or past it where they come fast.

Copying into the cache, and from there to the disk, is half of what the system works for a download,
and the processors are what a fast one waits for (open(2), O_DIRECT; Linux only). Of others the disk
begins to take what is cached, and keeps that for the program that soon loads the model.
"""

from __future__ import annotations

import errno
import io
import os
import sys

from converters.writers.atomic import WRITEBACK_BYTES, start_writeback

FAST_RATE = 125e6
"""Bytes per second: 1 Gbit/s. At what such a line brings, the processors still have time."""
ALIGNMENT = 4096
"""Of the places and lengths of what goes past the cache; no disk asks for more."""

_REFUSED = frozenset({errno.EINVAL, errno.EOPNOTSUPP})


class Appending:
    """Appends to an open file, whose bytes are always a beginning of what was appended.

    For one thread. Raises OSError.
    """

    def __init__(self, stream: io.FileIO) -> None:
        self._stream = stream
        self._size = self._on_its_way = os.fstat(stream.fileno()).st_size
        self._may_pass_cache = True

    def append(self, view: memoryview, *, is_fast: bool = False) -> None:
        """Append bytes, which came at `FAST_RATE` or slower."""
        passed = self._past_cache(view) if is_fast else 0
        write_all(self._stream, view[passed:])
        self._size += len(view)
        if self._size - self._on_its_way >= WRITEBACK_BYTES:
            start, self._on_its_way = self._on_its_way, self._size
            start_writeback(self._stream.fileno(), start, self._size - start)

    def _past_cache(self, view: memoryview) -> int:
        """How many bytes were written so: none where the file system, or their place, forbids it.

        Not every memory will do, either: blocks of pages of their own do.
        """
        if not self._may_pass_cache or self._size % ALIGNMENT or len(view) % ALIGNMENT:
            return 0
        try:
            return _written_past_cache(self._stream.fileno(), view)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            self._may_pass_cache = False
            return 0


def write_all(stream: io.FileIO, data: memoryview) -> None:
    """Write bytes to the last, however few are taken at a time."""
    left = data
    while left:
        left = left[stream.write(left) :]


def _written_past_cache(descriptor: int, view: memoryview) -> int:
    if sys.platform != "linux":
        return 0
    import fcntl

    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
    try:
        return os.write(descriptor, view)
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
