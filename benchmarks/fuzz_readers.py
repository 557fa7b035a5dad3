"""Break model files of every container and read them: only errors of ours may appear.

    python -m benchmarks.fuzz_readers [--count N] [--first NUMBER] [--only NUMBER]

N files (100,000 if not given), each made from its number alone, are judged, opened, identified, and
every tensor is read, in one process a core. Exit status 1 when a foreign exception appeared, a
tensor had another length than it says, a file took more than 2 seconds or a process more than
64 MB beyond what it began with, or a command in the hostile files ran. `--only` shows one case.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.fuzzing import Seed, case, outcome, seeds

PART = 1000
MOST_SECONDS = 2.0
MOST_BYTES = 64 << 20
HUNG_SECONDS = 300.0


@dataclass
class Tally:
    """What the files of some numbers gave; `bad` says what must not be, by number."""

    outcomes: Counter[str] = field(default_factory=Counter)
    bad: dict[int, str] = field(default_factory=dict)
    slowest: tuple[float, int] = (0.0, -1)

    def add(self, other: Tally) -> None:
        """Take in what another process found."""
        self.outcomes += other.outcomes
        self.bad |= other.bad
        self.slowest = max(self.slowest, other.slowest)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        marker = Path(folder) / "ran"
        if options.only is not None:
            return _show(seeds(f"touch {marker}"), options.only)
        tally = _everything(options.first, options.count, str(marker))
        if marker.exists():
            tally.bad[-1] = "a command in a file RAN"
    for word, times in tally.outcomes.most_common():
        print(f"{times:8d}  {word}")
    print(f"slowest file {tally.slowest[0]:.3f} s (--only {tally.slowest[1]})")
    for number, what in sorted(tally.bad.items()):
        print(f"BAD --only {number}: {what}")
    print("FAILED" if tally.bad else "nothing foreign, nothing ran, nothing slow or large")
    return int(bool(tally.bad))


def _everything(first: int, count: int, marker: str) -> Tally:
    total = Tally()
    parts = [
        (start, min(PART, first + count - start)) for start in range(first, first + count, PART)
    ]
    cores = os.cpu_count() or 1
    with multiprocessing.get_context("spawn").Pool(cores, _prepare, (marker,)) as pool:
        waiting = [(part, pool.apply_async(_some, part)) for part in parts]
        for (start, size), result in waiting:
            try:
                total.add(result.get(HUNG_SECONDS + 2 * size * MOST_SECONDS / 100))
            except multiprocessing.TimeoutError:
                total.bad[start] = f"one of {size} files from here on hangs or killed its process"
                pool.terminate()
                break
    return total


_corpus: list[Seed] = []


def _prepare(marker: str) -> None:
    _corpus.extend(seeds(f"touch {marker}"))
    outcome(*case(_corpus, 0))
    _limit_memory()


def _limit_memory() -> None:
    """Beyond the limit a MemoryError shows what would have grown (Linux only)."""
    try:
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        return
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, used + MOST_BYTES))


def _some(first: int, count: int) -> Tally:
    tally = Tally()
    for number in range(first, first + count):
        seed, files = case(_corpus, number)
        begin = time.perf_counter()
        try:
            word = f"{seed.container}: {outcome(seed, files)}"
        except Exception as error:  # noqa: BLE001  # this is what the fuzzer looks for
            word = "FOREIGN"
            tally.bad[number] = f"{seed.container}: {type(error).__name__}: {error}"
        seconds = time.perf_counter() - begin
        tally.slowest = max(tally.slowest, (seconds, number))
        if seconds > MOST_SECONDS:
            tally.bad[number] = f"{seed.container}: took {seconds:.1f} s"
        tally.outcomes[word] += 1
    return tally


def _show(corpus: list[Seed], number: int) -> int:
    """One case as it is, with the traceback that a foreign exception has."""
    seed, files = case(corpus, number)
    for name, content in files.items():
        print(f"{name}: {len(content)} bytes, {content[:200]!r}")
    print(f"{seed.container}: {outcome(seed, files)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
