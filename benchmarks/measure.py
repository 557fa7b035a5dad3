"""How everything is measured: whole processes, interleaved, as ratios to the limit of each round.

The machines this runs on are shared, so a wall time alone says little. The cases of a comparison
take turns, and each run is divided by the run of the limit (copying, SHA-256) in the same round;
the median of these ratios is the result. Where a virtual machine gives free memory back to its
host, the first touch of a page costs far more than copying it: `warm` therefore claims memory as
clean page cache and drops it immediately before a run. One round is run before those that count;
with none of those it counts itself: to see that everything runs.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MB = 1_000_000
_BLOCK = bytearray(1 << 20)


@dataclass(frozen=True, slots=True)
class Run:
    """One process: wall seconds, and its peak of private memory in bytes (0 where unknown)."""

    seconds: float
    private: int


@dataclass(frozen=True, slots=True)
class Case:
    """One way to do a job; `before` prepares and is not timed, `goal` is not to be exceeded."""

    name: str
    command: Sequence[str]
    goal: float | None = None
    before: Callable[[], object] | None = None
    environment: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What a case gave: `value` in `unit` against `goal`, with what it comes from."""

    benchmark: str
    case: str
    value: float
    unit: str
    goal: float | None
    seconds: tuple[float, ...] = ()
    ratios: tuple[float, ...] = ()
    private_bytes: int = 0
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without goal."""
        return None if self.goal is None else self.value <= self.goal


def python(*arguments: str) -> list[str]:
    """A command that runs this interpreter."""
    return [sys.executable, *arguments]


def run(case: Case) -> Run:
    """Run a case once. Raises RuntimeError with what it printed when it fails."""
    if case.before is not None:
        case.before()
    # Where only this project's modules would be compiled anew at every start, that is no measure.
    kept = {name: v for name, v in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment = {**kept, **(case.environment or {})}
    started = time.perf_counter()
    process = subprocess.Popen(
        case.command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        cwd=Path(__file__).parents[1],
    )
    peak = _PrivateMemory(process.pid)
    output, _ = process.communicate()
    seconds = time.perf_counter() - started
    if process.returncode != 0:
        text = output.decode(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(case.command)} failed:\n{text}")
    return Run(seconds, peak.stop())


def compare(benchmark: str, limit: Case, cases: Sequence[Case], rounds: int) -> list[Result]:
    """Run the limit and the cases in turns and give each as a ratio to the limit."""
    everything = [limit, *cases]
    runs: dict[str, list[Run]] = {case.name: [] for case in everything}
    for number in range(rounds + 1):
        for case in everything:
            measured = run(case)
            if number or not rounds:
                runs[case.name].append(measured)
    limits = [each.seconds for each in runs[limit.name]]
    return [_ratio(benchmark, case, runs[case.name], limits) for case in everything]


def _ratio(benchmark: str, case: Case, runs: Sequence[Run], limits: Sequence[float]) -> Result:
    seconds = tuple(each.seconds for each in runs)
    ratios = tuple(mine / limit for mine, limit in zip(seconds, limits, strict=True))
    return Result(
        benchmark=benchmark,
        case=case.name,
        value=statistics.median(ratios),
        unit="x",
        goal=case.goal,
        seconds=seconds,
        ratios=ratios,
        private_bytes=max(each.private for each in runs),
    )


def seconds(benchmark: str, cases: Sequence[Case], rounds: int) -> list[Result]:
    """Run the cases in turns and give each as the median of its wall seconds."""
    runs: dict[str, list[float]] = {case.name: [] for case in cases}
    for number in range(rounds + 1):
        for case in cases:
            measured = run(case)
            if number or not rounds:
                runs[case.name].append(measured.seconds)
    return [
        Result(benchmark, c.name, statistics.median(runs[c.name]), "s", c.goal, tuple(runs[c.name]))
        for c in cases
    ]


def warm(scratch: Path, nbytes: int) -> None:
    """Make `nbytes` of memory free that the host has given to this machine already."""
    sparse = scratch / "sparse"
    with open(sparse, "wb") as file:
        file.truncate(nbytes)
    with open(sparse, "rb", buffering=0) as file:
        while file.readinto(_BLOCK):
            pass
    sparse.unlink()


def read_through(path: Path) -> None:
    """Bring a file into the page cache."""
    with open(path, "rb", buffering=0) as file:
        while file.readinto(_BLOCK):
            pass


class _PrivateMemory:
    """Samples what a process holds by itself: pages that no file backs (Linux only)."""

    def __init__(self, pid: int, interval: float = 0.02) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._interval = interval
        self._stopped = threading.Event()
        self._peak = 0
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._stopped.set()
        self._thread.join()
        return self._peak

    def _sample(self) -> None:
        while not self._stopped.wait(self._interval):
            with contextlib.suppress(OSError):
                self._peak = max(self._peak, _anonymous(self._status.read_text()))


def _anonymous(status: str) -> int:
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0
