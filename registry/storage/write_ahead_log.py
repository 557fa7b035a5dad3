"""Whether the write-ahead log of an SQLite library still holds what was written to it.

SQLite takes from it what comes before the first frame that is not sound, and deletes it when the
last program closes the library: what a damaged log lost leaves no sign then. Before that there are
two. Behind the damage lie frames of the same log, by its salts, that end a transaction; and the
index of the log in `-shm`, which a program that was killed leaves behind, counts frames that are
not there. Neither tells anything of a log that went together with its index, or that was replaced
by an older one (https://sqlite.org/fileformat2.html#walformat, https://sqlite.org/walformat.html).
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator, Sequence
from functools import cache
from operator import mul
from pathlib import Path
from typing import NamedTuple

AGAIN_SECONDS = 0.1
"""A program may be writing: what it leaves half-written it has finished when one looks again."""

_HEADER, _FRAME, _INDEX = 32, 24, 100  # bytes
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}
"""Of a log whose checksums are of words in this order; all its other numbers are big-endian."""
_PAGES = frozenset(1 << power for power in range(9, 17))
"""Bytes; the log has also the largest as it is, for which the database and the index have 1."""
_WORD = 1 << 32

_CLOSING_UNLOCKS = os.name == "posix"
_OPEN: dict[tuple[int, int], int] = {}
"""Descriptors by the identity of their files."""

_Sums = tuple[int, int]
_Salts = tuple[int, int]


class _Index(NamedTuple):
    """What `-shm` says: the frames of a log that are valid, and how many of them were copied."""

    frames: int
    salts: _Salts
    copied: int


def losses(database: Path) -> str | None:
    """What is wrong with the log beside a database, which nobody may have opened before.

    Raises OSError when it cannot be read.
    """
    found = _losses(database)
    if found is None:
        return None
    time.sleep(AGAIN_SECONDS)
    return found if _losses(database) == found else None


def _losses(database: Path) -> str | None:
    index = _index(_shared(f"{database}-shm"))  # first: the log only grows meanwhile
    log = _content(Path(f"{database}-wal"))
    if not log:
        is_lost = index is not None and index.frames > index.copied
        return "its write-ahead log is gone" if is_lost else None
    if not _is_sound(log):
        return "the beginning of its write-ahead log is damaged"
    frames = list(_frames(log))
    salts = struct.unpack_from(">II", log, 16)
    sound = _sound_transactions(log, frames)
    ends = [each for each, frame in enumerate(frames, 1) if frame[1] and frame[2:4] == salts]
    if any(end > sound for end in ends):
        return f"its write-ahead log is damaged behind frame {sound}"
    if index is not None and index.salts == salts and index.frames > sound:
        return f"its write-ahead log ends with frame {sound} and had {index.frames}"
    return None


def _shared(path: str) -> bytes:
    """The beginning of `-shm`, whose file stays open: a process that closes one loses its locks.

    POSIX has it so (https://sqlite.org/howtocorrupt.html, 2.2), and this process may be one that
    works with the library. Windows does not, and there nobody could delete what is open.
    """
    try:
        if not _CLOSING_UNLOCKS:
            with open(path, "rb", buffering=0) as index:  # locks lie right behind it
                return index.read(_INDEX)
        status = os.stat(path)
        descriptor = _OPEN.get((status.st_dev, status.st_ino))
        if descriptor is None:
            descriptor = os.open(path, os.O_RDONLY)
            _OPEN[status.st_dev, status.st_ino] = descriptor
    except FileNotFoundError:
        return b""
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, _INDEX)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _index(shared: bytes) -> _Index | None:
    """None for an index that is being written, or was never."""
    if len(shared) < _INDEX or shared[:48] != shared[48:96] or not shared[12]:
        return None
    (frames,) = struct.unpack_from("=I", shared, 16)
    (copied,) = struct.unpack_from("=I", shared, 96)
    # Salts are copied from the log as they lie there.
    return _Index(frames, struct.unpack_from(">II", shared, 32), copied)


def _is_sound(log: bytes) -> bool:
    if len(log) < _HEADER:
        return False
    order = _MAGIC.get(struct.unpack_from(">I", log)[0])
    if _page_bytes(log) not in _PAGES:
        return False
    return order is not None and _sums(log[:24], order, (0, 0)) == struct.unpack_from(
        ">II", log, 24
    )


def _frames(log: bytes) -> Iterator[tuple[int, ...]]:
    """The header of each frame: page, pages of the database behind a transaction, salts, sums."""
    step = _FRAME + _page_bytes(log)
    for start in range(_HEADER, len(log) - step + 1, step):
        yield struct.unpack_from(">6I", log, start)


def _page_bytes(log: bytes) -> int:
    (found,) = struct.unpack_from(">I", log, 8)
    return int(found)


def _sound_transactions(log: bytes, frames: Sequence[tuple[int, ...]]) -> int:
    """How many frames SQLite would take: up to the last end of a transaction before damage."""
    (magic,) = struct.unpack_from(">I", log)
    salts, before = struct.unpack_from(">II", log, 16), struct.unpack_from(">II", log, 24)
    step, taken = _FRAME + _page_bytes(log), 0
    for number, frame in enumerate(frames):
        start = _HEADER + number * step
        summed = log[start : start + 8] + log[start + _FRAME : start + step]
        if frame[2:4] != salts or _sums(summed, _MAGIC[magic], before) != frame[4:]:
            break
        before = frame[4:]
        taken = number + 1 if frame[1] else taken
    return taken


def _sums(data: bytes, order: str, before: _Sums) -> _Sums:
    """The checksum of a log, continued: `s0 += x[0] + s1; s1 += x[1] + s0` for each two words.

    Each sum is that of the two before it and a word, so a word counts by the Fibonacci number of
    its distance from the end.
    """
    older, younger = before
    words = (older, younger - older, *struct.unpack(f"{order}{len(data) // 4}I", data))
    weights = _fibonacci(len(words))
    return sum(map(mul, words, weights[1:])) % _WORD, sum(map(mul, words, weights)) % _WORD


@cache
def _fibonacci(count: int) -> tuple[int, ...]:
    """F(count), ..., F(1), as far as sums of 32 bits know them."""
    found = [1, 1]
    while len(found) < count:
        found.append((found[-1] + found[-2]) % _WORD)
    return tuple(reversed(found[:count]))
