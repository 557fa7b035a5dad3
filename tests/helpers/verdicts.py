"""The verdict on what a pickle would run, of files that are models and of others."""

from __future__ import annotations

import os

from converters.bytesource import ByteSource
from converters.containers import Inspected, open_model
from converters.errors import UnsupportedFile
from converters.pickles.verdict import SAFE_NO_CODE, SafetyReport


def safety_of(source: str | os.PathLike[str] | ByteSource) -> SafetyReport:
    """The verdict on a file, model or not; a file that cannot be opened raises its FileProblem."""
    try:
        return open_model(source).safety
    except Inspected as error:
        return error.safety
    except UnsupportedFile:
        return SAFE_NO_CODE
