"""`assetmgr inspect` in a process of its own, with a look at what it imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_PROGRAM = """\
import atexit, sys
from assetmgr.__main__ import main
sys.argv = ["assetmgr", "inspect", "--json", sys.argv[1]]
heavy = ("torch", "numpy")
atexit.register(lambda: print([name for name in heavy if name in sys.modules], file=sys.stderr))
main()
"""


def inspected_in_a_process(path: Path) -> dict[str, object]:
    """The document of the only file; asserts that neither torch nor numpy was imported."""
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(path)], capture_output=True, text=True, check=True
    )
    assert run.stderr.strip() == "[]"
    (document,) = json.loads(run.stdout)
    return dict(document)
