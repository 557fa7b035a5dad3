"""All hashes of files, against SHA-256 alone of the same bytes.

What limits it: a safetensors file needs two SHA-256 streams (the file, and AutoV3 behind its
header), which cannot share work because their blocks begin at other offsets. With the rates of
`rates` the least time on n cores is the sum of reading and all hashes, divided by n.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3
from zlib_ng.zlib_ng import crc32

from benchmarks.measure import Case, Result, compare, python, read_through

GOAL = 1.15
_RATE_BYTES = 256 << 20


def hashes(scratch: Path, checkpoint: Path, rounds: int) -> list[Result]:
    """Each container by itself, both, and both by `scan` into a new library."""
    twin = checkpoint.with_suffix(".safetensors")
    sets = {"ckpt": [checkpoint], "safetensors": [twin], "both": [checkpoint, twin]}
    results: list[Result] = []
    for name, paths in sets.items():
        cases = [_case(f"all hashes, {name}", "hash_all", paths, GOAL)]
        if name == "both":
            cases.append(_scan(scratch, checkpoint.parent))
        limit = _case(f"sha256 alone, {name}", "sha256", paths, None)
        results += compare("hash", limit, cases, rounds)
    return results


def _case(name: str, job: str, paths: list[Path], goal: float | None) -> Case:
    command = python("-m", "benchmarks.jobs", job, *map(str, paths))
    return Case(name, command, goal, before=lambda: [read_through(path) for path in paths])


def _scan(scratch: Path, folder: Path) -> Case:
    number = 0
    environment: dict[str, str] = {}

    def new_library() -> None:
        nonlocal number
        number += 1
        environment["ASSETMGR_HOME"] = str(scratch / f"home{number}")

    command = python("-m", "assetmgr", "scan", str(folder))
    return Case("assetmgr scan, both", command, GOAL, new_library, environment)


def rates(rounds: int) -> list[Result]:
    """CPU seconds of one thread for a gigabyte of each hash, the least of the rounds."""
    block = bytearray(os.urandom(1 << 20))
    steps: dict[str, Callable[[], object]] = {
        "sha256": _repeated(hashlib.sha256().update, block),
        "blake3": _repeated(blake3().update, block),
        "crc32": _repeated(crc32, block),
    }
    return [
        Result("rates", name, min(_cpu_seconds(step) for _ in range(rounds + 1)), "s/GB", None)
        for name, step in steps.items()
    ]


def _repeated(update: Callable[[bytearray], object], block: bytearray) -> Callable[[], None]:
    def run() -> None:
        for _ in range(_RATE_BYTES // len(block)):
            update(block)

    return run


def _cpu_seconds(step: Callable[[], object]) -> float:
    started = time.thread_time()
    step()
    return (time.thread_time() - started) * 1e9 / _RATE_BYTES
