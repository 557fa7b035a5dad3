"""Downloads from loopback: a large file against curl, and many small ones against one at a time.

curl writes the same bytes to the same disk and the file is synced, but hashes nothing; ours also
makes every hash on the way, verifies, identifies and registers the file. Both are whole processes:
the start of ours counts, and each call finds a library that does not have the file yet. The small
files are asked for with a latency as between continents.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Case, Result, compare, python, read_through, run
from benchmarks.serve import COMMIT, REPO, VERSION

LARGE_BYTES = 1_000_000_000
SMALL_FILES = 200
SMALL_BYTES = 20_000
LATENCY_SECONDS = 0.05


def download(scratch: Path, scale: float, rounds: int) -> list[Result]:
    """All cases; the scale makes the large file smaller and the small ones fewer."""
    return [*_large(scratch, scale, rounds), *_small(scratch, scale, rounds)]


def _large(scratch: Path, scale: float, rounds: int) -> list[Result]:
    folder = scratch / "large"
    name = "model.safetensors"
    folder.mkdir()
    _write_model(folder / name, max(1 << 16, int(LARGE_BYTES * scale)))
    with _served(folder, 0.0) as url:
        target, address = scratch / "curl", f"{url}/{REPO}/resolve/{COMMIT}/{name}"
        fetched = f"curl -sf -o '{target}' '{address}' && sync '{target}'"
        curl = Case(
            "curl and sync", ["sh", "-c", fetched], before=lambda: target.unlink(missing_ok=True)
        )
        hub = _case("assetmgr hub download", scratch, url, goal=1.3)
        civitai = _case("assetmgr civitai download", scratch, url, "civitai", VERSION, goal=1.3)
        read_through(folder / name)
        return compare("download 1 GB", curl, [hub, civitai], rounds)


def _small(scratch: Path, scale: float, rounds: int) -> list[Result]:
    folder = scratch / "small"
    _fill(folder, max(10, round(SMALL_FILES * min(1.0, scale))), SMALL_BYTES, ".bin")
    with _served(folder, LATENCY_SECONDS) as url:
        one = _case("one after the other", scratch, url, settings="downloads_at_once = '1'\n")
        ours = _case("side by side", scratch, url, goal=0.2)
        return compare("200 small files", one, [ours], rounds)


def _case(
    name: str,
    scratch: Path,
    url: str,
    service: str = "hub",
    what: str = REPO,
    *,
    goal: float | None = None,
    settings: str = "",
) -> Case:
    home, target = scratch / f"home of {name}", scratch / "target"
    home.mkdir()
    (home / "config.toml").write_text(settings)
    environment = {"ASSETMGR_HOME": str(home), "HF_ENDPOINT": url, "CIVITAI_ENDPOINT": url}
    run(Case("an empty library", python("-m", "assetmgr", "list"), environment=environment))
    library, empty = home / "library.db", home / "empty.db"
    shutil.copyfile(library, empty)

    def forget() -> None:
        shutil.rmtree(target, ignore_errors=True)
        for path in home.glob("library.db*"):
            path.unlink()
        shutil.copyfile(empty, library)

    command = python("-m", "assetmgr", service, "download", what, "--quiet", "--to", str(target))
    return Case(name, command, goal=goal, before=forget, environment=environment)


def _write_model(path: Path, nbytes: int) -> None:
    """A safetensors file of one tensor of random bytes."""
    entry = {"dtype": "U8", "shape": [nbytes], "data_offsets": [0, nbytes]}
    header = json.dumps({"weight": entry}).encode()
    block = random.Random(1).randbytes(1 << 20)
    with path.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        while nbytes > 0:
            nbytes -= stream.write(block[:nbytes])


def _fill(folder: Path, count: int, nbytes: int, suffix: str) -> None:
    """Files of random bytes, each of another content."""
    folder.mkdir()
    block = random.Random(1).randbytes(1 << 20)
    for number in range(count):
        with (folder / f"file{number:04}{suffix}").open("wb") as stream:
            stream.write(number.to_bytes(8, "little"))
            left = nbytes - 8
            while left > 0:
                left -= stream.write(block[:left])


@contextlib.contextmanager
def _served(folder: Path, latency: float) -> Iterator[str]:
    """The address of a server for the files of a folder."""
    command = python("-m", "benchmarks.serve", str(folder), str(latency))
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
        env=dict(os.environ),
    ) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.stdin.close()
