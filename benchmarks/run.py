"""Measure speed and memory against physical limits, other tools and the goals.

    python -m benchmarks.run [convert] [hash] [startup] [large] [merge] [library] [tui]
                             [--scratch DIR] [--scale F]
                             [--rounds N] [--json FILE]

Without names everything runs; the scratch folder needs 16 GB times the scale and is emptied again.
Peaks of private memory are those of the conversions, for the whole and a quarter of the size.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks import convert, hashes, large, library, merge, startup, tui
from benchmarks.measure import Case, Result, python, run

NAMES = ("convert", "hash", "startup", "large", "merge", "library", "tui")


def main() -> None:
    options = _options()
    names = options.names or list(NAMES)
    results: list[Result] = []
    with tempfile.TemporaryDirectory(dir=options.scratch, prefix="assetmgr-bench-") as folder:
        for result in _measure(Path(folder), names, options.scale, options.rounds):
            print(_line(result), flush=True)
            results.append(result)
    if options.json:
        options.json.write_text(json.dumps(_document(results, options.scale), indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Plain)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--scratch", type=Path, help="folder for the measured files")
    parser.add_argument("--scale", type=float, default=1.0, help="1 is 2.13 GB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write a JSON document")
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    return options


class _Plain(argparse.RawDescriptionHelpFormatter):
    """Shows the module's text as it is."""


def _measure(scratch: Path, names: list[str], scale: float, rounds: int) -> Iterator[Result]:
    if set(names) - {"large", "merge", "library", "tui"}:
        yield from _measure_usual(scratch, names, scale, rounds)
    if "large" in names:
        yield from large.look(scratch, scale, rounds)
        yield from large.sdxl(scratch, scale, rounds)
        yield from large.full(scratch, scale, rounds)
    if "merge" in names:
        yield from merge.merges(scratch, scale, rounds)
    if "tui" in names:
        yield from tui.tui(scratch, scale, rounds)
    if "library" in names:
        yield from library.library(scratch, scale, rounds)


def _measure_usual(scratch: Path, names: list[str], scale: float, rounds: int) -> Iterator[Result]:
    checkpoint = _files(scratch / "whole", scale)
    if "convert" in names:
        yield from _converting(scratch, checkpoint, rounds, "whole")
        quarter = _files(scratch / "quarter", scale / 4)
        yield from _converting(scratch, quarter, 1, "quarter")
    if "hash" in names:
        yield from hashes.rates(rounds)
        yield from hashes.hashes(scratch, checkpoint, rounds)
    if "startup" in names:
        yield from startup.startup(scratch, checkpoint, rounds)


def _converting(scratch: Path, checkpoint: Path, rounds: int, size: str) -> list[Result]:
    timed = [
        *convert.without_hashes(scratch, checkpoint, rounds),
        *convert.with_hashes(scratch, checkpoint, rounds),
    ]
    memory = convert.private_memory(timed, size)
    return [*timed, *memory] if size == "whole" else memory


def _files(folder: Path, scale: float) -> Path:
    folder.mkdir()
    checkpoint = folder / "model.ckpt"
    run(Case("files", python("-m", "benchmarks.files", str(checkpoint), str(scale))))
    return checkpoint


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
