"""How long whole `assetmgr` processes take that have little to do; none may import torch."""

from __future__ import annotations

from pathlib import Path

from benchmarks.files import make_adapters
from benchmarks.measure import Case, Result, python, run, seconds

ADAPTERS = 200


def startup(scratch: Path, checkpoint: Path, rounds: int) -> list[Result]:
    """Median wall seconds beside those of a bare interpreter."""
    folder = scratch / "adapters"
    make_adapters(folder, ADAPTERS)
    environment = {"ASSETMGR_HOME": str(scratch / "startup home")}
    run(Case("scan", python("-m", "assetmgr", "scan", str(folder)), environment=environment))
    goals = {
        ("--help",): 0.15,
        ("inspect", str(checkpoint)): 0.3,
        ("inspect", str(checkpoint.with_suffix(".safetensors"))): 0.3,
        ("list",): 0.5,
    }
    for arguments in goals:
        command = python("-m", "benchmarks.jobs", "without_torch", *arguments)
        run(Case(f"{arguments[0]} without torch", command, environment=environment))
    cases = [Case("python alone", python("-c", "pass"))]
    for (verb, *rest), goal in goals.items():
        name = " ".join(["assetmgr", verb, *(Path(each).suffix for each in rest)])
        command = python("-m", "assetmgr", verb, *rest)
        cases.append(Case(name, command, goal, environment=environment))
    return seconds("startup", cases, 3 * rounds)
