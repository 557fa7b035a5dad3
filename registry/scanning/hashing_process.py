"""The program that hashes small files for a scan in a process of its own (`processes`).

It reads pickled lists of files from its standard input and answers each on its standard output:
with what is to be recorded of a file, or None where something is wrong with it, which the scan then
finds out for itself. It ends when its input does: also when the scan was killed. What an
interpreter is set up to print when it starts comes before `BEGIN`, and is no answer.
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import sys
from collections.abc import Sequence
from typing import IO

from converters.errors import FileProblem
from converters.progress import SILENT
from registry.scanning.looking import Waiting, read
from registry.scanning.scan_records import ScannedFile

BEGIN = b"Answers follow:\n"


def answer_all(asked: IO[bytes], answers: IO[bytes]) -> None:
    """Until nothing is asked any more, or nobody is there to be answered."""
    with contextlib.suppress(EOFError, OSError):
        answers.write(BEGIN)
        while True:
            files: list[Waiting] = pickle.load(asked)  # noqa: S301 - of the scan that started us
            send(answers, [_read(file) for file in files])


def send(pipe: IO[bytes], files: Sequence[Waiting] | Sequence[ScannedFile | None]) -> None:
    """What `pickle.load` has on the other side."""
    pipe.write(pickle.dumps(files, pickle.HIGHEST_PROTOCOL))
    pipe.flush()


def _read(file: Waiting) -> ScannedFile | None:
    try:
        scanned, problem = read(file, SILENT)
    except FileProblem:
        return None
    return scanned if problem is None else None


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the scan, and its end is ours
    stdout, sys.stdout = sys.stdout, sys.stderr  # what else is printed is no answer
    answer_all(sys.stdin.buffer, stdout.buffer)
