"""Bytes on their way to the disk: gathered, written and hashed beside the network.

Three kinds of threads share the work: the one that receives copies into blocks of a ring, makes the
quick hashes, and helps with the slow ones where it would wait for them; one waits for the disk; and
SHA-256, the slowest, has its own. The file is always a beginning of what was received, so that
whatever happens it can be gone on with: its size says how much of it is there, also where room for
all of it was taken.
"""

from __future__ import annotations

import io
import mmap
import os
import queue
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from assetmgr.sources.transfers.appending import FAST_RATE, write_all
from assetmgr.sources.transfers.growing import Growing
from converters.errors import AssetmgrError, WriteFailed
from converters.hashing import FileHashes, StreamHasher, hash_bytes
from converters.lanes import BLOCK_BYTES, RING_BLOCKS, Block, Countdown, Lanes
from converters.writers.atomic import naming
from converters.writers.room import release, reserve
from registry.storage.file_lock import try_lock

HELD_SECONDS = 0.5
"""Bytes are not held in memory for longer: what is killed then has not lost them."""

_TRIES = 10
_ENOUGH_FOR_HEADER = 9
_LONGEST_HEADER = 100_000_000


@dataclass(frozen=True, slots=True)
class Arrived:
    """The hashes of the whole file; `header_bytes` is where a safetensors file's data begins."""

    hashes: FileHashes
    header_bytes: int | None


class Sink:
    """A file that grows at its end; use as a context manager.

    `have` is how many bytes were received, of this and earlier calls; `size` how many are expected.
    Raises DiskFull or WriteFailed; what another program is downloading to is refused.
    """

    def __init__(self, path: Path, size: int | None) -> None:
        self._path, self._size = path, size
        self.have = 0
        self._hasher: StreamHasher | None = None
        self._header_bytes: int | None = None
        self._block_bytes = BLOCK_BYTES if size is None else min(BLOCK_BYTES, size + 1)
        self._blocks = _Blocks(self._block_bytes)
        self._block: Block | None = None
        self._filled = 0
        self._begun = 0.0
        self._writer: Growing | None = None

    def __enter__(self) -> Self:
        with naming(self._path):
            self._stream = self._opened()
        if not try_lock(self._stream.fileno()):
            self._stream.close()
            cause = "is being downloaded by another program"
            raise WriteFailed(cause, path=self._path, hint="wait until that is done")
        release(self._stream.fileno())  # of a call that was killed: it is asked for anew
        return self

    def _opened(self) -> io.FileIO:
        """The file, in a folder that another download, the last in it, may just be removing."""
        for left in reversed(range(_TRIES)):
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                return self._path.open("a+b", buffering=0)
            except (FileNotFoundError, FileExistsError):
                if not left:
                    raise
        raise AssertionError("the last try returns or raises")

    def __exit__(self, *_: object) -> None:
        try:
            self._settle()
        except AssetmgrError:  # an error that is on its way says more
            pass
        finally:
            self._stop_hashing()
            release(self._stream.fileno())
            self._stream.close()

    def restart(self) -> None:
        """Forget all bytes."""
        self._settle()
        self._stop_hashing()
        self._blocks = _Blocks(self._block_bytes)  # hashes that were stopped give none back
        self.have = 0
        with naming(self._path):
            self._stream.truncate(0)

    def take_up(self) -> int:
        """Hash the bytes that an earlier call left, and give their number."""
        with naming(self._path):
            self._stream.seek(0)
            while self._read_block():
                pass
            self._stream.seek(0, io.SEEK_END)
        return self.have

    def room(self) -> memoryview:
        """Memory for the next bytes, at least for one; `took` says how many were put there.

        Waits while the disk or the hashes are behind.
        """
        if self._block is None:
            lanes = None if self._hasher is None else self._hasher.lanes
            self._block, self._filled = self._blocks.take(lanes), 0
            self._begun = time.monotonic()
        return self._block.view[self._filled :]

    def took(self, count: int) -> None:
        """Append the bytes that are in `room` now.

        They may be written later, and their failure raised by a later call.
        """
        self.have += count
        self._filled += count
        if self._block is not None and (self._filled == len(self._block.view) or self._is_late()):
            self._pass_on()

    def finish(self) -> Arrived:
        """Let the bytes reach the disk; gives their hashes."""
        hashes = self._finish_large(self._hasher) if self._hasher else self._finish_small()
        return Arrived(hashes, self._header_bytes)

    def _finish_large(self, hasher: StreamHasher) -> FileHashes:
        """Wait for the disk and the hashes, side by side."""
        self._pass_on()
        writer, self._writer = self._writer or Growing(self._path, self._stream), None
        writer.end(durably=True)
        hashes = hasher.finish()
        writer.join()
        return hashes

    def _finish_small(self) -> FileHashes:
        """Write and hash what fits in one block, without threads: starting them takes longer."""
        block, self._block = self._block, None
        view = block.view[: self._filled] if block else memoryview(b"")
        with naming(self._path):
            write_all(self._stream, view)
            os.fsync(self._stream.fileno())
        self._header_bytes = _header_bytes(bytes(view[:_ENOUGH_FOR_HEADER]))
        return hash_bytes(view, self._header_bytes)

    def _read_block(self) -> bool:
        block = self._blocks.take()
        count = self._stream.readinto(block.view) or 0
        if count:
            self._hashing(block.view).update(block.view[:count], block.release)
            self.have += count
        else:
            block.release()
        return count > 0

    def _is_late(self) -> bool:
        return self._filled >= _ENOUGH_FOR_HEADER and time.monotonic() - self._begun >= HELD_SECONDS

    def _pass_on(self) -> None:
        """Give the block that is being filled to the writer."""
        block, self._block = self._block, None
        if block is None:
            return
        view, seconds = block.view[: self._filled], time.monotonic() - self._begun
        if self._writer is None:
            reserve(self._stream.fileno(), self._size or 0)
            self._writer = Growing(self._path, self._stream)
        done = Countdown(2, block.release)
        self._writer.feed(Block(view, done.tick), is_fast=len(view) >= FAST_RATE * seconds)
        self._hashing(view).update(view, done.tick)

    def _settle(self) -> None:
        """Nothing is on its way any more."""
        self._pass_on()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.end()
            writer.join()

    def _hashing(self, head: memoryview) -> StreamHasher:
        """What is hashed depends on whether the file begins as a safetensors file does."""
        return self._hasher or self._begin_hashing(bytes(head[:_ENOUGH_FOR_HEADER]))

    def _begin_hashing(self, head: bytes) -> StreamHasher:
        self._header_bytes = _header_bytes(head)
        self._hasher = StreamHasher(self._header_bytes)
        return self._hasher

    def _stop_hashing(self) -> None:
        hasher, self._hasher = self._hasher, None
        if hasher is not None:
            hasher.__exit__(None, None, None)


class _Blocks:
    """The ring; its memory is made as it is needed, because small files are many."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._left = RING_BLOCKS
        self._free: queue.SimpleQueue[mmap.mmap | bytearray] = queue.SimpleQueue()

    def take(self, lanes: Lanes | None = None) -> Block:
        """Memory; until some is free, this thread works for `lanes`."""
        if self._left and self._free.empty():
            self._left -= 1
            memory = self._fresh()
        else:
            memory = self._free.get() if lanes is None else lanes.wait_for(self._free)
        return Block(memoryview(memory), lambda: self._free.put(memory))

    def _fresh(self) -> mmap.mmap | bytearray:
        """Whole pages for large files, as disks want them that take bytes without a copy."""
        is_whole = self._size == BLOCK_BYTES
        return mmap.mmap(-1, self._size) if is_whole else bytearray(self._size)


def _header_bytes(head: bytes) -> int | None:
    """8 and the length that the first 8 bytes tell, where a JSON object follows."""
    length = int.from_bytes(head[:8], "little")
    return 8 + length if head[8:9] == b"{" and length <= _LONGEST_HEADER else None
