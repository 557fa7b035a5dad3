"""Measure speed and memory against physical limits, other tools and the goals.

    python -m benchmarks.run [NAME ...] [--scratch DIR] [--scale F] [--rounds N] [--json FILE]

Without names everything runs; `merge` is all whose names begin so. The scratch folder needs 24 GB
times the scale and is emptied again; `BENCH_FILES` may name a folder that keeps merges' files.
`make bench-try` runs all of them on tiny files, to see that they still do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from benchmarks import (
    convert,
    download,
    explain,
    hashes,
    large,
    library,
    low_rank,
    merge,
    preview,
    preview_cuda,
    quantise,
    remote,
    startup,
    tui,
)
from benchmarks.files import checkpoint_of
from benchmarks.measure import Result

Benchmark = Callable[[Path, float, int], Iterable[Result]]
"""Measures in a scratch folder, at a scale of the real sizes, in so many rounds."""


def _convert(scratch: Path, scale: float, rounds: int) -> Iterator[Result]:
    yield from convert.converting(scratch, checkpoint_of(scratch, scale), rounds)
    yield from convert.memory_of_a_quarter(scratch, checkpoint_of(scratch, scale / 4))


def _hash(scratch: Path, scale: float, rounds: int) -> Iterator[Result]:
    yield from hashes.rates(rounds)
    yield from hashes.hashes(scratch, checkpoint_of(scratch, scale), rounds)


def _startup(scratch: Path, scale: float, rounds: int) -> Iterable[Result]:
    return startup.startup(scratch, checkpoint_of(scratch, scale), rounds)


BENCHMARKS: Mapping[str, Benchmark] = {
    "convert": _convert,
    "hash": _hash,
    "startup": _startup,
    "large": large.large,
    **merge.COMPARISONS,
    "explain": explain.explain,
    "low-rank": low_rank.low_rank,
    "tui": tui.tui,
    "library": library.library,
    "download": download.download,
    "remote": remote.peek,
    "preview": preview.previews,
    "quantise": quantise.quantise,
    "preview-sd1": preview.changes_of_sd1,
    "preview-cuda": preview_cuda.cuda,
}
"""Everything that can be measured, one row each."""


def main() -> None:
    options = _options()
    names = [row for name in options.names for row in _rows(name)] or list(BENCHMARKS)
    results: list[Result] = []
    with tempfile.TemporaryDirectory(dir=options.scratch, prefix="assetmgr-bench-") as folder:
        for name in names:
            for result in BENCHMARKS[name](Path(folder), options.scale, options.rounds):
                print(_line(result), flush=True)
                results.append(result)
    if options.json:
        options.json.write_text(json.dumps(_document(results, options.scale), indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Plain)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--scratch", type=Path, help="folder for the measured files")
    parser.add_argument("--scale", type=float, default=1.0, help="1 is 2.13 GB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write a JSON document")
    options = parser.parse_args()
    unknown = {name for name in options.names if not _rows(name)}
    if unknown:
        known = ", ".join(BENCHMARKS)
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {known}")
    return options


def _rows(name: str) -> list[str]:
    """The benchmark of a name, or those that begin with it as a word."""
    return [name] if name in BENCHMARKS else [n for n in BENCHMARKS if n.startswith(f"{name}-")]


class _Plain(argparse.RawDescriptionHelpFormatter):
    """Shows the module's text as it is."""


def _line(result: Result) -> str:
    goal, met = "", {None: "", True: "met", False: "MISSED"}[result.met]
    if result.goal is not None:
        goal = f"<= {result.goal:g} {result.unit}"
    spread = ""
    if result.ratios:
        spread = f"({min(result.ratios):.2f}-{max(result.ratios):.2f})"
    walls = f"{sorted(result.seconds)[len(result.seconds) // 2]:.2f} s" if result.seconds else ""
    head = f"{result.benchmark:17} {result.case:29} {result.value:7.2f} {result.unit:4}"
    return f"{head} {spread:13} {walls:9} {goal:11} {met}".rstrip()


def _document(results: list[Result], scale: float) -> dict[str, object]:
    return {
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.processor() or platform.machine(),
            "system": platform.platform(),
            "python": sys.version.split()[0],
            "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        },
        "scale": scale,
        "results": [{**asdict(result), "met": result.met} for result in results],
    }


if __name__ == "__main__":
    main()
