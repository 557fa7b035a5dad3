"""`assetmgr` and `python -m assetmgr`."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from pathlib import Path

_SIBLINGS = ("converters", "registry", "tui")

NEW_OBJECTS = 50_000
"""So many between looks for cycles. Importing makes tens of thousands that stay: with Python's 700,
a tenth of the time until a command begins goes into looking through them again and again."""


def main() -> None:
    """Run the command line, once it is sure that our packages are the ones that get imported.

    Their names are generic: another `registry` or `converters` earlier on the path would otherwise
    end in a puzzling error far from its cause.
    """
    gc.set_threshold(NEW_OBJECTS)
    _open_closed_streams()
    ours = Path(__file__).resolve().parent.parent
    for name in _SIBLINGS:
        found = importlib.util.find_spec(name)
        if (
            found is None
            or found.origin is None
            or ours not in Path(found.origin).resolve().parents
        ):
            where = found.origin if found else "nowhere"
            sys.stderr.write(f"error: package {name} is found at {where}, not beside assetmgr\n")
            sys.stderr.write("hint: install assetmgr in an environment of its own\n")
            sys.exit(1)
    try:
        from assetmgr.cli.main import main as run
        from converters.devices import own_process

        own_process()
        run()
    except KeyboardInterrupt:  # before the program could take care of it
        sys.stderr.write("error: interrupted\n")
        sys.exit(130)


def _open_closed_streams() -> None:
    """Put something in the place of standard streams that the caller closed (`2>&-`).

    Else the next file that is opened gets the number of the stream, and what a native library
    writes to stderr would go into a model. Reading finds nothing; what goes to stderr is lost; but
    results are refused, because nobody would get them: their stream can only be read.
    """
    streams = (
        ("stdin", os.O_RDONLY, "r"),
        ("stdout", os.O_RDONLY, "w"),
        ("stderr", os.O_WRONLY, "w"),
    )
    for name, access, mode in streams:  # in their order: the lowest free number is given
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, access), mode, encoding="utf-8"))


if __name__ == "__main__":
    main()
