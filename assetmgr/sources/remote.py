"""A file on a server as bytes at positions, so that headers are read without downloading it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from converters.errors import NotAvailable, TruncatedFile

BLOCK_BYTES = 64 * 1024
"""What is asked for at a time: a header or a directory of a model file is one to four of these."""

MOST_BYTES = 64 * 1024 * 1024
"""More than any header; who needs it had better download the file."""


@dataclass(slots=True)
class Cost:
    """What it took to look into a file and those beside it: answers with bytes, and their bytes."""

    requests: int = 0
    received: int = 0


class RemoteBytes:
    """A `ByteSource` over a function that gives the bytes of a range.

    Whole blocks are fetched, each once, and neighbouring ones together. `cost` counts, over all
    files that it was given to. Raises TruncatedFile beyond the end, NotAvailable beyond
    `MOST_BYTES`, and what `fetch` raises.
    """

    is_distant = True

    def __init__(
        self, name: str, size: int, fetch: Callable[[int, int], bytes], cost: Cost | None = None
    ) -> None:
        self.name = name
        self.size = size
        self.cost = cost or Cost()
        self._fetch = fetch
        self._blocks: dict[int, bytes] = {}

    def pread(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes at `offset`."""
        if offset + count > self.size:
            raise TruncatedFile(
                f"ends at byte {self.size}, needed {offset + count}", path=self.name
            )
        if not count:
            return b""
        wanted = range(offset // BLOCK_BYTES, (offset + count - 1) // BLOCK_BYTES + 1)
        missing = [block for block in wanted if block not in self._blocks]
        if missing:
            self._load(missing[0], missing[-1])
        data = b"".join(self._blocks[block] for block in wanted)
        start = offset - wanted.start * BLOCK_BYTES
        return data[start : start + count]

    def check_unchanged(self) -> None:
        """The address names one commit, whose files do not change."""

    def _load(self, first: int, last: int) -> None:
        start, end = first * BLOCK_BYTES, min((last + 1) * BLOCK_BYTES, self.size)
        if self.cost.received + end - start > MOST_BYTES:
            raise NotAvailable(
                f"would take more than {MOST_BYTES >> 20} MiB to look into",
                path=self.name,
                hint="download it, then inspect it",
            )
        data = self._fetch(start, end - start)
        self.cost.requests += 1
        self.cost.received += len(data)
        for block in range(first, last + 1):
            place = (block - first) * BLOCK_BYTES
            self._blocks[block] = data[place : place + BLOCK_BYTES]
