"""Quantising a UNet's matrices to GGUF, against ggml's own Python package doing the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import MB, Case, Result, compare, python, read_through, run

GOAL = 0.5
"""Ours hashes the result and waits for the disk; the peer does neither."""
PRIVATE_GOAL = 300.0
"""MB; 150 of them are torch's own."""
TYPES = ("Q8_0", "Q4_0")


def quantise(scratch: Path, scale: float, rounds: int) -> Iterator[Result]:
    """Time as ratios to the peer, and the memory that ours takes."""
    source, target = scratch / "matrices.safetensors", scratch / "out.gguf"
    run(Case("files", python("-m", "benchmarks.jobs", "matrices", str(source), str(scale))))

    def fresh() -> None:
        target.unlink(missing_ok=True)
        read_through(source)

    for kind in TYPES:
        command = ("-m", "benchmarks.jobs")
        files = (str(source), str(target), kind)
        results = compare(
            f"quantise {kind}",
            Case("gguf", python(*command, "quantise_gguf", *files), before=fresh),
            [Case("assetmgr", python(*command, "quantise", *files), GOAL, before=fresh)],
            rounds,
        )
        yield from results
        private = max(each.private_bytes for each in results)
        yield Result("memory", f"quantise {kind}", private / MB, "MB", PRIVATE_GOAL)
    target.unlink()
    source.unlink()
