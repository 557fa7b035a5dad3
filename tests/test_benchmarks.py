"""The benchmarks run, here on tiny files; what they measure is judged on a quiet machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


IN_A_LIBRARY = (
    *("look-up by hash", "queries, p95", "the last pages", "facets", "facets, kind:vae"),
    *("facets, a word", "assetmgr list", "assetmgr list of a query"),
)


def measured(tmp_path: Path, *arguments: str) -> dict[str, dict[str, object]]:
    document = tmp_path / "results.json"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.run", *arguments),
            *("--scale", "0.002", "--rounds", "1"),
            *("--scratch", str(scratch), "--json", str(document)),
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    assert not list(scratch.iterdir()), "scratch files are removed"
    results = json.loads(document.read_text())["results"]
    return {f"{each['benchmark']}: {each['case']}": each for each in results}


def test_every_limit_is_one_and_every_goal_is_judged(tmp_path: Path) -> None:
    results = measured(tmp_path)
    limits = (
        "convert: cp and sync",
        "convert, no sync: cp",
        "convert and hash: sha256 alone",
        "hash: sha256 alone, both",
        "SDXL, copy: cp and sync",
        "SDXL, copy and hash: cp and sync",
        "fp32+EMA to fp16: cp and sync",
        "first scan: sha256 alone",
    )
    assert [results[name]["value"] for name in limits] == [1.0] * len(limits)
    large = ("SDXL, copy", "SDXL, copy and hash", "fp32+EMA to fp16")
    merges = ("SD1 + rank 32", "SDXL + 3 rank 128", "SDXL weighted sum")
    judged = {name for name, each in results.items() if each["goal"] is not None}
    assert judged == {
        "convert: assetmgr",
        "convert, no sync: assetmgr",
        "convert and hash: assetmgr",
        *(
            f"memory: {way}, {size}"
            for way in ("convert", "convert, no sync", "convert and hash")
            for size in ("whole", "quarter")
        ),
        "hash: all hashes, ckpt",
        "hash: all hashes, safetensors",
        "hash: all hashes, both",
        "hash: assetmgr scan, both",
        "startup: assetmgr --help",
        "startup: assetmgr inspect .ckpt",
        "startup: assetmgr inspect .safetensors",
        "startup: assetmgr list",
        "look into SDXL: .ckpt",
        "look into SDXL: .safetensors",
        "peek at SD1 .ckpt: requests",
        "peek at SD1 .ckpt: received",
        "tui: first paint",
        "tui: first rows",
        "tui: keystroke to repaint, p95",
        "tui: a frame of scrolling, p95",
        "tui: memory, peak resident",
        *(f"{name}: assetmgr" for name in large),
        *(f"{name}: assetmgr" for name in merges),
        *(f"memory: {name}" for name in (*large, *merges)),
        *(f"library: {name}" for name in IN_A_LIBRARY),
        *(f"memory: list, {size}" for size in ("whole", "tenth")),
        "scan: again, nothing changed",
        "first scan: assetmgr scan",
        "first scan: all names are shown",
    }
    assert all(isinstance(results[name]["met"], bool) for name in judged)
