"""What it costs to look into a file on a server: bytes that travel, and seconds."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import prod
from pathlib import Path
from typing import ClassVar

from benchmarks.files import checkpoint_of, checkpoint_shapes
from benchmarks.measure import MB, Result, python

GOAL_MB = 1.0
_COMMIT = "0" * 40
_REPO = "org/large"


def peek(scratch: Path, scale: float, rounds: int) -> Iterator[Result]:
    """`hub peek` of a safetensors file of 7.7 GB and of a pickle, from a server on loopback."""
    large = scratch / "large.safetensors"
    make_sparse(large)
    for name, path in (("7.7 GB safetensors", large), ("ckpt", checkpoint_of(scratch, scale))):
        yield from _peeks(f"hub peek, {name}", path, scratch, rounds)
    large.unlink()


def make_sparse(target: Path) -> None:
    """The header of Stable Diffusion 1.5 with averaged weights, fp32, and a hole for the rest."""
    shapes = checkpoint_shapes()
    averaged = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): shape
        for name, shape in shapes.items()
        if name.startswith("model.diffusion_model.")
    }
    entries: dict[str, object] = {}
    position = 0
    for name, shape in {**shapes, **averaged}.items():
        end = position + 4 * prod(shape)
        entries[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [position, end]}
        position = end
    header = json.dumps(entries).encode()
    with open(target, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + position)


def _peeks(case: str, path: Path, scratch: Path, rounds: int) -> Iterator[Result]:
    walls, moved = [], 0
    for _ in range(rounds):
        with _served(path) as (url, sent):
            environment = {
                **os.environ,
                "HF_ENDPOINT": url,
                "ASSETMGR_HOME": str(scratch / "peek home"),
            }
            command = python("-m", "assetmgr", "hub", "peek", _REPO, path.name, "--json")
            started = time.perf_counter()
            done = subprocess.run(command, env=environment, capture_output=True, check=True)
            walls.append(time.perf_counter() - started)
            moved = max(moved, sent[0])
            assert json.loads(done.stdout)["kind"] == "checkpoint"
    note = f"of {path.stat().st_size / MB:,.0f} MB"
    yield Result("remote", case, moved / MB, "MB", GOAL_MB, tuple(walls), note=note)
    yield Result("remote", f"{case}, time", statistics.median(walls), "s", None, tuple(walls))


@contextmanager
def _served(path: Path) -> Iterator[tuple[str, list[int]]]:
    """A Hub with one file, and how many bytes of bodies it has sent."""
    sent = [0]
    handler = type("Handler", (_Handler,), {"path_served": path, "sent": sent})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", sent
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    path_served: ClassVar[Path]
    sent: ClassVar[list[int]]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""

    def do_HEAD(self) -> None:
        size = self.path_served.stat().st_size
        tag = hashlib.sha256(self.path_served.name.encode()).hexdigest()
        self.send_response(200)
        self.send_header("ETag", f'"{tag}"')
        self.send_header("X-Repo-Commit", _COMMIT)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def do_GET(self) -> None:
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        start, count = int(first), int(last) - int(first) + 1
        with open(self.path_served, "rb") as file:
            file.seek(start)
            body = file.read(count)
        self.send_response(206)
        size = self.path_served.stat().st_size
        self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{size}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.sent[0] += len(body)
