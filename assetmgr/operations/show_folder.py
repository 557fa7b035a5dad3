"""A file's folder in the file manager of the system."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from converters.errors import FileMissing, NotAvailable

_OPENERS = {"darwin": "open", "win32": "explorer"}


def show_folder(path: str) -> None:
    """Open the folder that holds a file; does not wait for what opens it.

    Raises FileMissing for a folder that is gone, NotAvailable without file manager or display.
    """
    folder = Path(path).parent
    if not folder.is_dir():
        raise FileMissing("the folder is gone", path=folder)
    opener = shutil.which(_OPENERS.get(sys.platform, "xdg-open"))
    display = sys.platform in _OPENERS or os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}
    if opener is None or not display:
        raise NotAvailable("there is no file manager here", path=folder)
    subprocess.Popen(  # noqa: S603 - a program of the system, with a folder that exists
        [opener, str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
