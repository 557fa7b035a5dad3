"""Renders: previews of many LoRAs, LoRAs in and out of loaded networks, loading, and the start.

Against diffusers' own ways. The renders are those of the demo's small trained family, so that they
can be made on a CPU; `preview-sd1` reads and changes files with the true sizes of Stable Diffusion
1.5. All of our 100 previews are made; of the peer's a few, whose mean is taken for all.
What a CUDA device does, `preview_cuda` measures.

Floors stand beside the figures: the bytes of the file read once (`read`, into memory that is
there), and what `preview_floors` measures.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from assetmgr.sampler.process.client import worker_environment
from benchmarks.measure import Case, Result, python, run

PREVIEWS = 100
"""Previews that times are given for, and that are made."""
PEERS = 2
"""Those that are made the peer's way; their mean stands for all."""

_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
_OURS = ("imports", "previews", "swap", "load")
_FLOORS = "benchmarks.preview_floors"
"""Jobs of ours, and the module of the floors, which run in the surroundings that our worker has."""


def previews(scratch: Path, scale: float, rounds: int) -> Iterator[Result]:
    """On the demo's family, in three minutes; a smaller `scale` also makes fewer previews."""
    home = scratch / "preview home"
    demo = scratch / "demo family"
    demo.mkdir()
    count = max(PEERS, round(PREVIEWS * min(1.0, scale)))
    job_of(home, "files", demo, count)
    yield from _start(home, min(rounds, 3))
    yield from _many(home, demo, count)
    yield from _changes(home, demo, rounds, "demo family")
    shutil.rmtree(demo)


def changes_of_sd1(scratch: Path, scale: float, rounds: int) -> Iterator[Result]:
    """LoRA in and out, and loading, with the sizes of Stable Diffusion 1.5; there is no smaller."""
    if scale < 1:
        return
    home, sd1 = scratch / "preview home", scratch / "preview sd-1"
    run(Case("files", python("-m", "benchmarks.merge", str(sd1), "sd-1", "32", "1")))
    job_of(home, "sd1_files", sd1)
    yield from _changes(home, sd1, min(rounds, 2), "SD1.5")
    shutil.rmtree(sd1)


def _start(home: Path, rounds: int) -> Iterator[Result]:
    measured = [job_of(home, "imports") for _ in range(rounds)]
    for clock in ("wall", "processor"):
        times = tuple(each[clock] for each in measured)
        yield Result("sampler start", clock, statistics.median(times), "s", None, times)


def _many(home: Path, folder: Path, count: int) -> Iterator[Result]:
    """Previews of many LoRAs, against pipelines in one process, and in a process for each."""
    ours, process = _timed_job(home, "previews", folder, count)
    theirs, _ = _timed_job(home, "pipelines", folder, PEERS)
    alone = statistics.median(_timed_job(home, "pipelines", folder, 1)[1] for _ in range(PEERS))
    for case, mine, peer in (
        ("a pipeline for each", ours["all"], theirs["all"] / PEERS * count),
        ("a script for each", process, alone * count),
    ):
        note = f"{count} previews and {PEERS} pipelines; a script's imports count, and ours once"
        yield Result("100 previews", case, mine / peer, "x", 0.1, (mine, peer), note=note)


def _changes(home: Path, folder: Path, rounds: int, family: str) -> Iterator[Result]:
    """LoRA in and out, and loading, as ratios to diffusers' time.

    Both in fp32, as CPUs render, and loading in the file's own type, too: it is mapped by both.
    """
    for name, job, dtype, goal in (
        ("LoRA in and out", "swap", "float32", 0.2),
        ("load a file", "load", "float32", 1 / 3),
        ("load a file", "load", "float16", 1 / 3),
    ):
        told = (folder, rounds, "cpu", dtype)
        theirs = job_of(home, f"{job}_peer", *told)["each"]
        ours = job_of(home, job, *told)["each"]
        yield Result(name, f"{family}, {dtype}", ours / theirs, "x", goal, (ours, theirs))
    read = job_of(home, "read", folder, rounds)["each"]
    yield Result("load a file", f"{family}: reading it", read, "s", None, (read,))
    floors = job_of(home, str(folder), rounds, module=_FLOORS)
    for name, case, floor in (
        ("load a file", "new memory in fp32", "touch"),
        ("LoRA in and out", "bytes and operations", "swap"),
        *((("100 previews", "operations of the UNet", "sample"),) * (family != "SD1.5")),
    ):
        seconds = floors[floor] * (PREVIEWS if floor == "sample" else 1)
        yield Result(name, f"{family}: {case}", seconds, "s", None, (seconds,))


def _timed_job(home: Path, name: str, *arguments: object) -> tuple[dict[str, float], float]:
    """What a job measured, and the seconds of its whole process."""
    started = time.perf_counter()
    measured = job_of(home, name, *arguments)
    return measured, time.perf_counter() - started


def job_of(
    home: Path, name: str, *arguments: object, module: str = "benchmarks.preview_jobs"
) -> dict[str, float]:
    """What a job measured, in a process of its own. Raises RuntimeError with what it said."""
    # Where only this project's modules would be compiled anew at every start, that is no measure.
    kept = {name: v for name, v in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    kept |= {**_ENVIRONMENT, "ASSETMGR_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-m", module, name, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=worker_environment(kept) if name in _OURS or module == _FLOORS else kept,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured
