"""Everything that needs a CUDA device, in five minutes: the tests, then the figures.

    python -m benchmarks.gpu [FOLDER]

Each part runs in a process of its own, within its seconds, whatever became of the others. What they
say is shown, and kept in a folder if one is given. The status is 1 when a part failed, or a goal
was missed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import python


@dataclass(frozen=True, slots=True)
class Part:
    """A command, and the seconds it may take."""

    name: str
    command: Sequence[str]
    seconds: int


def parts(folder: Path) -> tuple[Part, ...]:
    """What is run; the figures also go into a file of the folder."""
    tests = ("tests/sampler/test_gpu.py", "tests/converters/test_merge_gpu.py")
    pytest = python("-m", "pytest", "-m", "gpu", "-n", "0", "-rA", "-q", "-p", "no:cacheprovider")
    figures = python("-m", "benchmarks.run", "preview-cuda", "--rounds", "3")
    return (
        Part("tests", [*pytest, *tests], 150),
        Part("figures", [*figures, "--json", str(folder / "figures.json")], 150),
    )


def main() -> None:
    """Run all parts and say what became of them."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        folder.mkdir(parents=True, exist_ok=True)
        became = {part.name: run_part(part, folder / f"{part.name}.txt") for part in parts(folder)}
        became["goals"] = goals(folder / "figures.json")
    print(json.dumps(became))
    raise SystemExit(any(word != "passed" for word in became.values()))


def run_part(part: Part, log: Path) -> str:
    """Run a part, show and keep what it says; `passed`, `failed` or `too slow`."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}
    with log.open("w+", encoding="utf-8") as said:
        try:
            done = subprocess.run(
                part.command,
                stdout=said,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=Path(__file__).parents[1],
                timeout=part.seconds,
                check=False,
            )
            word = "failed" if done.returncode else "passed"
        except subprocess.TimeoutExpired:
            word = "too slow"
    print(
        f"== {part.name}: {word}\n{log.read_text(encoding='utf-8', errors='replace')}", flush=True
    )
    return word


def goals(figures: Path) -> str:
    """Whether there are figures and all of them meet their goals."""
    try:
        results = json.loads(figures.read_text(encoding="utf-8"))["results"]
    except (OSError, ValueError):
        return "failed"
    return "passed" if results and all(each["met"] is not False for each in results) else "failed"


if __name__ == "__main__":
    main()
