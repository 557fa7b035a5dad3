"""Errors on stderr, in one line each, and the exit codes they mean."""

from __future__ import annotations

import sys

from assetmgr.operations.failures import Failure
from assetmgr.text import plain

DONE, FAILED, WRONG_CALL, INTERRUPTED = 0, 1, 2, 130


def print_failure(failure: Failure) -> None:
    """`error: PATH: cause`, and where there is one `hint: …`."""
    subject = f"{plain(failure.path)}: " if failure.path else ""
    warn(f"error: {subject}{plain(failure.error)}")
    if failure.hint:
        warn(f"hint: {plain(failure.hint)}")


def print_traceback(error: BaseException) -> None:
    """Where an error is from; what it says may be from anywhere, too."""
    import traceback  # brings much with it, for nearly no call

    for line in "".join(traceback.format_exception(error)).splitlines():
        warn(plain(line))


def warn(line: str) -> None:
    """A line on stderr, whatever its encoding can show."""
    encoding = sys.stderr.encoding or "utf-8"
    sys.stderr.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stderr.flush()
