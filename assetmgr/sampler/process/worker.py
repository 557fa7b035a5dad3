"""The sampler process: reads jobs line by line, renders them, answers line by line.

Only this module speaks on the original standard output. What libraries print goes to standard
error, which the program keeps for the message in case this process dies. The process ends when its
input ends, so it never outlives the program by more than a job.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import IO

from assetmgr.sampler.process.jobs import RenderJob
from assetmgr.sampler.process.libraries import import_libraries
from assetmgr.sampler.process.messages import (
    Outcome,
    advance_line,
    error_line,
    message_line,
    outcome_line,
    stage_line,
)
from assetmgr.sampler.process.sheet_jobs import job_of_line
from converters.errors import AssetmgrError
from converters.progress import Progress


class PipeProgress(Progress):
    """Reports to the program; cancelling is done by ending the process."""

    def __init__(self, channel: IO[str]) -> None:
        self._channel = channel

    def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
        """Begin a countable piece of work."""
        self.send(stage_line(label, total, unit))

    def advance(self, amount: int = 1) -> None:
        """`amount` more units are done."""
        self.send(advance_line(amount))

    def message(self, text: str) -> None:
        """Something worth a line."""
        self.send(message_line(text))

    def send(self, line: str) -> None:
        """One line to the program, at once."""
        self._channel.write(line + "\n")
        self._channel.flush()


def claim_output() -> IO[str]:
    """The original standard output as a channel of our own; whatever is printed goes to stderr."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return channel


def serve(jobs: IO[str], channel: IO[str]) -> None:
    """Render every job of `jobs` until it ends. Errors of a job are answered, bugs end us."""
    from assetmgr.sampler.process.session import Session
    from assetmgr.sampler.process.sheet_session import render_sheet

    session, progress = Session(), PipeProgress(channel)
    for line in jobs:
        job = job_of_line(line)
        try:
            outcome: Outcome = (
                session.render(job, progress)
                if isinstance(job, RenderJob)
                else render_sheet(session, job, progress)
            )
        except AssetmgrError as error:
            progress.send(error_line(error))
        else:
            progress.send(outcome_line(outcome))


def main() -> None:
    """Serve the program that started us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the program's to handle
    channel = claim_output()
    import_libraries()
    try:
        serve(sys.stdin, channel)
    except BrokenPipeError:  # the program is gone
        os._exit(0)


if __name__ == "__main__":
    main()
