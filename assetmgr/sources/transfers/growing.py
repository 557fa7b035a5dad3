"""A file that grows by blocks which a thread of its own appends, beside network and hashes."""

from __future__ import annotations

import functools
import io
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path

from assetmgr.sources.transfers.appending import Appending
from converters.lanes import Block
from converters.writers.atomic import naming


class Growing:
    """Appends blocks to an open file and gives them back; call `end`, then `join`.

    After a failure it goes on giving blocks back, or the one that receives would wait for ever.
    """

    def __init__(self, path: Path, stream: io.FileIO) -> None:
        self._path, self._stream, self._end = path, stream, Appending(stream)
        self._failure: BaseException | None = None
        self._is_to_last = False
        self._blocks: queue.SimpleQueue[tuple[Block, bool] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def feed(self, block: Block, *, is_fast: bool) -> None:
        """Append a block, which came fast or not.

        Raises what an earlier one failed for: DiskFull or WriteFailed.
        """
        self._blocks.put((block, is_fast))
        self._reraise()

    def end(self, *, durably: bool = False) -> None:
        """Nothing more comes; if wanted, the disk is to have all for sure."""
        self._is_to_last = durably
        self._blocks.put(None)

    def join(self) -> None:
        """Wait for the end. Raises as `feed`."""
        self._thread.join()
        self._reraise()

    def _reraise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        for block, is_fast in iter(self._blocks.get, None):
            self._attempt(functools.partial(self._end.append, block.view, is_fast=is_fast))
            block.release()
        if self._is_to_last:
            self._attempt(functools.partial(os.fsync, self._stream.fileno()))

    def _attempt(self, job: Callable[[], object]) -> None:
        try:
            if self._failure is None:
                with naming(self._path):
                    job()
        except BaseException as error:  # noqa: BLE001 - raised in the thread that receives
            self._failure = error
