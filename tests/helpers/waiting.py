"""Waiting for what a program does in its own time, also on a machine that is starved."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 300.0
"""Seconds after which it will not happen any more."""


def wait_until(
    happened: Callable[[], object], *, going_on: Callable[[], object] = lambda: True
) -> None:
    """Wait for what a thread or a process does; fails as soon as that is not `going_on`."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert going_on() or happened(), "it ended before"
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


async def until(pilot: Any, happened: Callable[[], object]) -> None:
    """Let a Textual program run until something has happened."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "waited too long"
        await pilot.pause(0.01)
    if pilot.app.is_running:
        await pilot.pause()  # to draw it
