"""The program that hashes small files for a scan in a process of its own (`processes`).

It answers each question of its standard input on its standard output (`hashing_messages`): with
what is to be recorded of a file, or nothing where something is wrong with it, which the scan then
finds out for itself. It ends when its input does: also when the scan was killed.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import IO

from converters.errors import FileProblem
from converters.progress import SILENT
from registry.scanning.hashing_messages import answer, questions
from registry.scanning.looking import Waiting, read
from registry.scanning.scan_records import ScannedFile


def answer_all(asked: IO[bytes], answers: IO[bytes]) -> None:
    """Until nothing is asked any more, or nobody is there to be answered."""
    with contextlib.suppress(OSError):
        for files in questions(asked):
            answer(answers, [_read(file) for file in files])


def _read(file: Waiting) -> ScannedFile | None:
    try:
        scanned, problem = read(file, SILENT)
    except FileProblem:
        return None
    is_as_recorded = scanned.content is None  # what changed meanwhile is looked into again
    return scanned if problem is None and is_as_recorded else None


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the scan, and its end is ours
    answer_all(sys.stdin.buffer, sys.stdout.buffer)
