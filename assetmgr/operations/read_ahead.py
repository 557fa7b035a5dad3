"""Files that are needed next come into the system's cache while something else is computed."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

_BLOCK = 1 << 20


class ReadAhead:
    """Reads files in a thread and forgets what it read; use as a context manager.

    What cannot be read is passed over: whoever needs the file will name the cause. The system drops
    cached files by itself when memory is needed, so that this costs none. `bytes` counts what was
    read.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def want(self, path: str) -> None:
        """Read a file, or all files of a folder, in place of what was wanted before."""
        self.stop()
        self._stop.clear()
        self._thread = threading.Thread(
            target=self._read, args=(Path(path),), name="read-ahead", daemon=True
        )
        self._thread.start()

    def wait(self) -> None:
        """Until all that is wanted was read."""
        if self._thread is not None:
            self._thread.join()

    def stop(self) -> None:
        """Stop reading, within a block."""
        self._stop.set()
        self.wait()
        self._thread = None

    def _read(self, path: Path) -> None:
        block = bytearray(_BLOCK)
        with contextlib.suppress(OSError):
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    self._read_file(file, block)

    def _read_file(self, path: Path, block: bytearray) -> None:
        with path.open("rb", buffering=0) as file:
            while not self._stop.is_set() and (count := file.readinto(block)):
                self.bytes += count
