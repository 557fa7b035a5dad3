"""A server on loopback that speaks enough of the Hub's routes to be downloaded from, quickly.

    python -m benchmarks.serve_hub FOLDER LATENCY_SECONDS

The files of the folder are those of the repository `org/bench`. The port is the first line on
stdout; it serves until its stdin ends. Bodies go from file to socket by the kernel, as those of
large servers do, so that little of what is measured is the server.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "org/bench"


def main() -> None:
    folder, latency = Path(sys.argv[1]), float(sys.argv[2])
    listing = _listing(folder)
    server = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(server.getsockname()[1], flush=True)
    threading.Thread(target=_accept, args=(server, folder, latency, listing), daemon=True).start()
    sys.stdin.read()


def _listing(folder: Path) -> bytes:
    siblings = []
    for path in sorted(folder.iterdir()):
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        size = path.stat().st_size
        siblings.append(
            {"rfilename": path.name, "size": size, "lfs": {"sha256": sha256, "size": size}}
        )
    return json.dumps({"id": REPO, "sha": COMMIT, "tags": [], "siblings": siblings}).encode()


def _accept(server: socket.socket, folder: Path, latency: float, listing: bytes) -> None:
    while True:
        connection, _ = server.accept()
        arguments = (connection, folder, latency, listing)
        threading.Thread(target=_talk, args=arguments, daemon=True).start()


def _talk(connection: socket.socket, folder: Path, latency: float, listing: bytes) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        while head := _request(connection):
            time.sleep(latency)
            path = unquote(head.split(b" ", 2)[1].decode().partition("?")[0])
            if path.startswith("/api/models/"):
                connection.sendall(_head(len(listing), "application/json") + listing)
                continue
            file = folder / path.rpartition("/")[2]
            connection.sendall(_head(file.stat().st_size, "application/octet-stream"))
            with file.open("rb") as stream:
                _send(connection, stream.fileno(), file.stat().st_size)


def _request(connection: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        try:
            piece = connection.recv(1 << 16)
        except OSError:
            return b""
        if not piece:
            return b""
        head += piece
    return head


def _head(length: int, kind: str) -> bytes:
    lines = (
        "HTTP/1.1 200 OK",
        f"Content-Length: {length}",
        f"Content-Type: {kind}",
        f"X-Repo-Commit: {COMMIT}",
        "",
        "",
    )
    return "\r\n".join(lines).encode()


def _send(connection: socket.socket, descriptor: int, size: int) -> None:
    sent = 0
    try:
        while sent < size:
            sent += os.sendfile(connection.fileno(), descriptor, sent, size - sent)
    except OSError:  # whoever asked has gone
        return


if __name__ == "__main__":
    main()
