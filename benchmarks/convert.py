"""Converting a checkpoint to safetensors, against copying and hashing the bytes of the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.measure import MB, Case, Result, compare, python, read_through, warm

COPY_GOAL = 1.4
HASH_GOAL = 1.2
PRIVATE_GOAL = 64.0


def converting(scratch: Path, checkpoint: Path, rounds: int) -> Iterator[Result]:
    """Without and with hashes, and the memory that each took."""
    timed = [
        *without_hashes(scratch, checkpoint, rounds),
        *with_hashes(scratch, checkpoint, rounds),
    ]
    yield from timed
    yield from private_memory(timed, "whole")


def memory_of_a_quarter(scratch: Path, checkpoint: Path) -> list[Result]:
    """The memory alone, for a checkpoint of a quarter of the size: it must not grow with that."""
    timed = [*without_hashes(scratch, checkpoint, 1), *with_hashes(scratch, checkpoint, 1)]
    return private_memory(timed, "quarter")


def without_hashes(scratch: Path, checkpoint: Path, rounds: int) -> list[Result]:
    """Against `cp` of the output: both until the disk has it, and both until the system has it.

    Our files are on the disk when the command ends; `cp` promises nothing. Beside them the way of
    other tools, which is not synced either.
    """
    twin, target = checkpoint.with_suffix(".safetensors"), scratch / "out.safetensors"
    fresh = _fresh(scratch, twin, target, checkpoint)
    copy = ["cp", str(twin), str(target)]
    durable = ["sh", "-c", 'cp "$0" "$1" && sync "$1"', *copy[1:]]
    results = [
        *compare(
            "convert",
            Case("cp and sync", durable, before=fresh),
            [_job("assetmgr", "convert", checkpoint, target, COPY_GOAL, fresh)],
            rounds,
        ),
        *compare(
            "convert, no sync",
            Case("cp", copy, before=fresh),
            [
                _job("assetmgr", "convert_unsynced", checkpoint, target, COPY_GOAL, fresh),
                _job("torch + safetensors", "convert_torch", checkpoint, target, None, fresh),
            ],
            rounds,
        ),
    ]
    target.unlink()
    return results


def with_hashes(scratch: Path, checkpoint: Path, rounds: int) -> list[Result]:
    """With all hashes of the output in the same pass, against SHA-256 alone of the output."""
    twin, target = checkpoint.with_suffix(".safetensors"), scratch / "out.safetensors"
    fresh = _fresh(scratch, twin, target, checkpoint)
    results = compare(
        "convert and hash",
        Case("sha256 alone", python("-m", "benchmarks.jobs", "sha256", str(twin)), before=fresh),
        [_job("assetmgr", "convert_hashed", checkpoint, target, HASH_GOAL, fresh)],
        rounds,
    )
    target.unlink()
    return results


def private_memory(results: list[Result], size: str) -> list[Result]:
    """The peaks of our own conversions, seen while they were timed."""
    return [
        Result("memory", f"{each.benchmark}, {size}", each.private_bytes / MB, "MB", PRIVATE_GOAL)
        for each in results
        if each.case == "assetmgr"
    ]


def _job(
    name: str, job: str, source: Path, target: Path, goal: float | None, fresh: Callable[[], None]
) -> Case:
    command = python("-m", "benchmarks.jobs", job, str(source), str(target))
    return Case(name, command, goal, before=fresh)


def _fresh(scratch: Path, twin: Path, target: Path, checkpoint: Path) -> Callable[[], None]:
    size = twin.stat().st_size

    def prepare() -> None:
        target.unlink(missing_ok=True)
        read_through(checkpoint)
        read_through(twin)
        warm(scratch, size + size // 4)

    return prepare
