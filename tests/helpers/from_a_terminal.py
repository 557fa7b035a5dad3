"""The program as a terminal starts it, with Ctrl-C in force.

What a shell starts in the background ignores SIGINT, and so would its children.
"""

from __future__ import annotations

import sys

_CODE = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
{before}
runpy.run_module("assetmgr", run_name="__main__", alter_sys=True)
"""

STANDS_STILL_WHILE_WRITING = """
import time
from assetmgr.cli.progress import TerminalProgress
def stage(self, label, total=None, unit="B"):
    self.writing = label.startswith("writing")
def advance(self, amount=1):
    if amount and self.writing:
        time.sleep(600)
TerminalProgress.stage, TerminalProgress.advance = stage, advance
"""
"""With the first bytes written it goes no further, until it is interrupted."""


def from_a_terminal(before: str = "") -> list[str]:
    """The start of a command line, which arguments follow; `before` is Python that runs first."""
    return [sys.executable, "-c", _CODE.format(before=before)]
