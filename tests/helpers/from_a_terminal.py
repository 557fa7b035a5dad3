"""The program as a terminal starts it, with Ctrl-C in force.

What a shell starts in the background ignores SIGINT, and so would its children.
"""

from __future__ import annotations

import sys

_CODE = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("assetmgr", run_name="__main__", alter_sys=True)
"""

FROM_A_TERMINAL = (sys.executable, "-c", _CODE)
"""The start of a command line; arguments follow."""
