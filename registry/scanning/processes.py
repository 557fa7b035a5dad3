"""Processes that hash small files for a scan, where there are thousands of them.

Threads share one interpreter: after each hash of a small file, of which none takes a thousandth of
a second, they wait for it, and so does what looks into files and records them. Processes have their
own. To start one takes as long as hashing a hundred files.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue

from registry.scanning.hashing_messages import answer_to, ask
from registry.scanning.looking import Waiting
from registry.scanning.scan_records import ScannedFile

COMMAND = (sys.executable or "", "-P", "-m", "registry.scanning.hashing_process")
"""`-P` keeps the current folder off its import path."""


class Processes:
    """Some of them; each works for one thread at a time. Call `close`."""

    def __init__(self, count: int, command: Sequence[str] = COMMAND) -> None:
        self._all = [process for _ in range(count) if (process := _started(command)) is not None]
        self._free: SimpleQueue[_Process | None] = SimpleQueue()
        for process in self._all:
            self._free.put(process)
        for _ in range(count - len(self._all)):
            self._free.put(None)

    def read(self, files: Sequence[Waiting]) -> Sequence[ScannedFile | None]:
        """Files that are recorded as they are now, with their hashes.

        None for one with which something is wrong, and for all of a process that is gone: then it
        is up to who asks.
        """
        process, answers = self._free.get(), None
        try:
            answers = None if process is None else process.ask(files)
        except (OSError, EOFError, TypeError, ValueError):
            process = None
        finally:
            self._free.put(process)  # whatever happens: others wait for it
        return [None] * len(files) if answers is None else answers

    def close(self) -> None:
        """End them, whatever they do."""
        for process in self._all:
            process.end()


class _Process:
    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own module, a fixed command
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )

    def ask(self, files: Sequence[Waiting]) -> list[ScannedFile | None]:
        """Its answer. Raises OSError, EOFError, TypeError or ValueError for none."""
        asked, answered = self._process.stdin, self._process.stdout
        assert asked is not None  # both are pipes
        assert answered is not None
        ask(asked, files)
        return answer_to(files, answered)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # bytes for a process that is gone
                if pipe is not None:
                    pipe.close()


def _started(command: Sequence[str]) -> _Process | None:
    # Its imports are ours, in our order: what lies beside us must not come before the library.
    home = str(Path(__file__).resolve().parents[2])
    paths = [*filter(None, sys.path), home]
    try:
        return _Process(command, {**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
    except OSError:  # too many processes, or an interpreter that is no program of its own
        return None
