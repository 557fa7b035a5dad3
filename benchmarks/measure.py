"""Measuring whole child processes in turn, so that a drifting machine disturbs both sides alike.

Freed memory of a virtual machine may be slow at its next touch, and the first round warms the page
cache: it is not counted. Ratios of medians are what to quote, not single times.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Run:
    """One finished child: wall time in seconds, and its peak private memory in bytes (Linux)."""

    seconds: float
    private_bytes: int


def python(code: str) -> list[str]:
    """The command that runs `code` in a fresh interpreter."""
    return [sys.executable, "-c", code]


def run(command: list[str]) -> Run:
    """Run a command to its end. Raises CalledProcessError when it fails."""
    started = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = 0
    while child.poll() is None:
        peak = max(peak, _private(child.pid))
        time.sleep(0.005)
    seconds = time.perf_counter() - started
    if child.returncode:
        message = child.stderr.read() if child.stderr else b""
        raise subprocess.CalledProcessError(child.returncode, command, stderr=message)
    return Run(seconds, peak)


def _private(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def in_turn(
    commands: Mapping[str, list[str]], rounds: int, between: Callable[[], None] = lambda: None
) -> dict[str, Run]:
    """The median run of each command over `rounds`, after one round that is not counted."""
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            between()
            finished = run(command)
            if number:
                runs[name].append(finished)
    return {name: _median(finished) for name, finished in runs.items()}


def _median(runs: list[Run]) -> Run:
    return Run(
        statistics.median(run.seconds for run in runs), max(run.private_bytes for run in runs)
    )
