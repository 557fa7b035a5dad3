"""One question the doctor asks, and its answer."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, whether it is well, what was found, and what to do about it."""

    name: str
    ok: bool
    detail: str
    hint: str | None = None


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether there is a folder; unlike `Path.is_dir` no exception for what is closed to us."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file; unlike `Path.is_file` no exception."""
    return os.path.isfile(path)  # noqa: PTH113
