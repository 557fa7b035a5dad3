"""A file that tells later what went wrong: the faults of the program itself, with their tracebacks.

Wrong input and what a user is told in a line are no faults. Nothing that looks like a token is
kept: messages of libraries quote addresses and headers.
"""

from __future__ import annotations

import contextlib
import platform
import re
import traceback
from datetime import UTC, datetime
from pathlib import Path

from assetmgr import __version__

MOST_BYTES = 1 << 18
"""A file that has grown to so much is kept aside, in the place of the one before."""

_LINES = 60
_HIDDEN = "[hidden]"
_SECRET = re.compile(
    r"""(?ix)
    (?P<kept>
        (?:token|api_?key|secret|password|authorization) ["']? \s* [:=] \s* ["']? (?:bearer\s+)?
        | bearer\s+ | ://[^\s/:@]*: )
    [^\s"'&,;)}@]+
    | \bhf_[a-z0-9]{8,}
    """
)


def note_fault(error: BaseException, file: Path) -> Path | None:
    """Add a fault to the file and give that; None where it cannot be written, and nothing fails."""
    lines = "".join(traceback.format_exception(error)).splitlines()[-_LINES:]
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    told = (
        f"{moment} assetmgr {__version__}, Python {platform.python_version()}, {platform.system()}"
    )
    text = without_secrets("\n".join((told, *lines))) + "\n\n"
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists() and file.stat().st_size > MOST_BYTES:
            file.replace(file.with_name(f"{file.name}.1"))
        with file.open("a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(text)
        return file
    return None


def without_secrets(text: str) -> str:
    """A text in whose places of tokens and passwords stands that they are hidden."""
    return _SECRET.sub(lambda found: (found["kept"] or "") + _HIDDEN, text)
