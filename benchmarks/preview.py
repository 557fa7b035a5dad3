"""Renders: previews of many LoRAs, LoRAs in and out of loaded networks, loading, and the start.

Against diffusers' own ways. The renders are those of the demo's small trained family, so that they
can be made on a CPU; `preview-sd1` reads and changes files with the true sizes of Stable Diffusion
1.5. Of the peer's 100 previews a few are made, and their mean is taken for all.
Where there is a CUDA device, pictures of random weights are rendered on it too.

Floors: loading reads every byte once (`read` measures that, into memory that is there); swapping a
LoRA of rank r reads and writes each changed weight once and multiplies 2·r·out·in per weight.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Case, Result, python, run

PREVIEWS = 100
"""What times are given for."""
MADE = 24
"""Previews that are made; their mean stands for all."""
PEERS = 2
"""The same of those that are made the peer's way."""

_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}


def previews(scratch: Path, scale: float, rounds: int) -> Iterator[Result]:
    """On the demo's family, in three minutes; a smaller `scale` also makes fewer previews."""
    home = scratch / "preview home"
    demo = scratch / "demo family"
    demo.mkdir()
    count = max(PEERS, round(MADE * min(1.0, scale)))
    _job(home, "files", demo, count)
    yield from _start(home, min(rounds, 3))
    yield _many(home, demo, count)
    yield from _changes(home, demo, rounds, "demo family")
    shutil.rmtree(demo)
    yield from _on_cuda(home, rounds)


def changes_of_sd1(scratch: Path, scale: float, rounds: int) -> Iterator[Result]:
    """LoRA in and out, and loading, with the sizes of Stable Diffusion 1.5; there is no smaller."""
    if scale < 1:
        return
    home, sd1 = scratch / "preview home", scratch / "preview sd-1"
    run(Case("files", python("-m", "benchmarks.merge", str(sd1), "sd-1", "32", "1")))
    _job(home, "sd1_files", sd1)
    yield from _changes(home, sd1, min(rounds, 2), "SD1.5")
    shutil.rmtree(sd1)


def _start(home: Path, rounds: int) -> Iterator[Result]:
    measured = [_job(home, "imports") for _ in range(rounds)]
    for clock in ("wall", "processor"):
        times = tuple(each[clock] for each in measured)
        yield Result("sampler start", clock, statistics.median(times), "s", None, times)


def _many(home: Path, folder: Path, count: int) -> Result:
    ours = _job(home, "previews", folder, count)["all"] / count * PREVIEWS
    theirs = _job(home, "pipelines", folder, PEERS)["all"] / PEERS * PREVIEWS
    note = f"{count} previews and {PEERS} pipelines, both taken for {PREVIEWS}"
    return Result("100 previews", "assetmgr", ours / theirs, "x", 0.1, (ours, theirs), note=note)


def _changes(home: Path, folder: Path, rounds: int, family: str) -> Iterator[Result]:
    """LoRA in and out, and loading, as ratios to diffusers' time."""
    for name, job, goal in (("LoRA in and out", "swap", 0.2), ("load a file", "load", 1 / 3)):
        theirs = _job(home, f"{job}_peer", folder, rounds)["each"]
        ours = _job(home, job, folder, rounds)["each"]
        yield Result(name, family, ours / theirs, "x", goal, (ours, theirs))
    read = _job(home, "read", folder, rounds)["each"]
    yield Result("load a file", f"{family}: reading it", read, "s", None, (read,))


def _on_cuda(home: Path, rounds: int) -> Iterator[Result]:
    """Time of a picture on loaded networks, as a ratio to diffusers' pipeline with the same."""
    if not _job(home, "has_cuda")["cuda"]:
        return
    for family, edge in (("sd-1", 512), ("sdxl", 1024)):
        measured = _job(home, "on_cuda", family, edge, rounds)
        ratio = measured["ours"] / measured["peer"]
        times = (measured["ours"], measured["peer"])
        yield Result("a picture on CUDA", f"{family} {edge}", ratio, "x", 1.0, times)
        yield Result(
            "a picture on CUDA",
            f"{family} {edge}: floor",
            measured["floor"],
            "s",
            None,
            note="FLOPs of the UNet over the rate of a large matrix product",
        )


def _job(home: Path, name: str, *arguments: object) -> dict[str, float]:
    """What a job of `preview_jobs` measured. Raises RuntimeError with what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.preview_jobs", name, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **_ENVIRONMENT, "ASSETMGR_HOME": str(home)},
        cwd=Path(__file__).parents[1],
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured
