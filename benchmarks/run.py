"""All benchmarks: `python -m benchmarks.run [convert] [hash] [start] [--scale F] [--rounds N]`.

| goal | limit |
|---|---|
| convert an unchanged .ckpt without hashing | 1.4 x `cp` of the output's bytes |
| the same with all hashes of the output | 1.2 x SHA-256 alone over the same bytes |
| private memory of a conversion | 64 MB |
| all hashes of files, as a scan makes them | 1.15 x SHA-256 alone |
| whole processes: --help, inspect, list | 0.15, 0.3, 0.5 s |
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.files import write_ckpt
from benchmarks.measure import in_turn, python, run


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure beside its goal."""

    what: str
    value: float
    goal: float | None
    unit: str


_CONVERT = """
from pathlib import Path
from converters.containers import open_model
from converters.writers.safetensors import write_safetensors
state = open_model({source!r}).state_dict
write_safetensors(state, Path({target!r}), overwrite=True, with_hashes={hashes})
"""
_TORCH = """
import torch
from safetensors.torch import save_file
state = torch.load({source!r}, weights_only=True)["state_dict"]
save_file(state, {target!r})
"""
_SHA256 = """
import hashlib
memory = memoryview(bytearray(1 << 20))
for path in {paths!r}:
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(memory):
            digest.update(memory[:count])
"""
_SCAN = """
from converters.containers import open_model
from converters.hashing import hash_file
for path in {paths!r}:
    hash_file(path, header_bytes=open_model(path).header_bytes)
"""


def convert(folder: Path, scale: float, rounds: int) -> list[Row]:
    """A .ckpt to .safetensors beside cp, SHA-256 and torch."""
    source, copy = folder / "model.ckpt", folder / "copy.safetensors"
    target, theirs = folder / "model.safetensors", folder / "torch.safetensors"
    _make(source, scale)
    run(python(_CONVERT.format(source=str(source), target=str(target), hashes=False)))
    texts = {"source": str(source), "target": str(folder / "made.safetensors")}
    runs = in_turn(
        {
            "cp": ["cp", str(target), str(copy)],
            "plain": python(_CONVERT.format(**texts, hashes=False)),
            "hashed": python(_CONVERT.format(**texts, hashes=True)),
            "sha256": python(_SHA256.format(paths=[str(target)])),
            "torch": python(_TORCH.format(source=str(source), target=str(theirs))),
        },
        rounds,
        os.sync,
    )
    cp, sha = runs["cp"].seconds, runs["sha256"].seconds
    gigabytes = target.stat().st_size / 1e9
    return [
        Row("size of the output", gigabytes, None, "GB"),
        Row("cp of the output", cp, None, "s"),
        Row("SHA-256 alone", sha, None, "s"),
        Row("convert without hashes / cp", runs["plain"].seconds / cp, 1.4, "x"),
        Row("torch.load + save_file / cp", runs["torch"].seconds / cp, None, "x"),
        Row("convert with all hashes / SHA-256", runs["hashed"].seconds / sha, 1.2, "x"),
        Row("private memory, without hashes", runs["plain"].private_bytes / 1e6, 64, "MB"),
        Row("private memory, with hashes", runs["hashed"].private_bytes / 1e6, 64, "MB"),
        Row("private memory, torch", runs["torch"].private_bytes / 1e6, None, "MB"),
    ]


def hashing(folder: Path, scale: float, rounds: int) -> list[Row]:
    """All hashes of a .ckpt and of a .safetensors, as a scan makes them."""
    pickled, converted = folder / "model.ckpt", folder / "model.safetensors"
    _make(pickled, scale)
    run(python(_CONVERT.format(source=str(pickled), target=str(converted), hashes=False)))
    rows = []
    for label, paths in (
        ("a .ckpt", [str(pickled)]),
        ("a .safetensors (two SHA-256: AutoV3)", [str(converted)]),
    ):
        runs = in_turn(
            {
                "sha256": python(_SHA256.format(paths=paths)),
                "ours": python(_SCAN.format(paths=paths)),
            },
            rounds,
        )
        ratio = runs["ours"].seconds / runs["sha256"].seconds
        rows.append(Row(f"all hashes of {label} / SHA-256", ratio, 1.15, "x"))
    return rows


def start(folder: Path, _: float, rounds: int) -> list[Row]:
    """Whole processes of the command line, and that none of them imports torch."""
    source = folder / "small.ckpt"
    write_ckpt(source, scale=0.001)
    program = [sys.executable, "-m", "assetmgr"]
    commands = {
        "--help": [*program, "--help"],
        "inspect": [*program, "inspect", str(source)],
        "list": [*program, "list"],
    }
    runs = in_turn(commands, max(rounds, 5))
    goals = {"--help": 0.15, "inspect": 0.3, "list": 0.5}
    rows = [Row(f"assetmgr {name}", runs[name].seconds, goals[name], "s") for name in commands]
    for name, command in commands.items():
        imported = subprocess.run(
            [command[0], "-X", "importtime", *command[1:]], capture_output=True, check=True
        ).stderr
        rows.append(Row(f"torch imports of {name}", float(b" torch\n" in imported), 0, ""))
    return rows


def _make(path: Path, scale: float) -> None:
    if not path.exists():
        write_ckpt(path, scale)


BENCHMARKS: dict[str, Callable[[Path, float, int], list[Row]]] = {
    "convert": convert,
    "hash": hashing,
    "start": start,
}


def main() -> None:
    """Run the named benchmarks, or all, and print what was measured beside the goals."""
    parser = argparse.ArgumentParser(description="Speed and memory beside the limits.")
    parser.add_argument("names", nargs="*", metavar=" | ".join(BENCHMARKS))
    parser.add_argument("--scale", type=float, default=1.0, help="1 is 2.1 GB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scratch", type=Path, help="folder with 10 GB of room")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    folder = Path(tempfile.mkdtemp(prefix="assetmgr-bench-", dir=options.scratch))
    os.environ["ASSETMGR_HOME"] = str(folder / "home")
    try:
        rows = [
            row
            for name in options.names or BENCHMARKS
            for row in BENCHMARKS[name](folder, options.scale, options.rounds)
        ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    for row in rows:
        goal = "" if row.goal is None else f"  goal {row.goal:g}"
        print(f"{row.what:<50} {row.value:9.3f} {row.unit:<2}{goal}")


if __name__ == "__main__":
    main()
