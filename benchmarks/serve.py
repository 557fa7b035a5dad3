"""A server on loopback that speaks enough of the Hub's and Civitai's routes to be downloaded from.

    python -m benchmarks.serve FOLDER LATENCY_SECONDS

The files of the folder are those of the repository `org/bench`, and of version 1 of a model of
Civitai's. The port is the first line on stdout; it serves until its stdin ends. Bodies go from file
to socket by the kernel, as those of large servers do, so that little of what is measured is the
server.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "org/bench"
VERSION = "1"

Answers = Mapping[str, bytes]


def main() -> None:
    folder, latency = Path(sys.argv[1]), float(sys.argv[2])
    answers = _answers(folder)
    server = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(server.getsockname()[1], flush=True)
    threading.Thread(target=_accept, args=(server, folder, latency, answers), daemon=True).start()
    sys.stdin.read()


def _answers(folder: Path) -> Answers:
    """What is said of the files, by the beginnings of the paths that ask for it."""
    files = [_described(path) for path in sorted(folder.iterdir())]
    siblings = [
        {"rfilename": name, "size": size, "lfs": {"sha256": sha256, "size": size}}
        for name, size, sha256 in files
    ]
    listed = [
        {
            "id": number,
            "name": name,
            "sizeKB": size / 1024,
            "primary": number == 0,
            "hashes": {"SHA256": sha256.upper()},
        }
        for number, (name, size, sha256) in enumerate(files)
    ]
    version = {"id": int(VERSION), "modelId": 1, "name": "v1", "files": listed}
    model = {"id": 1, "name": "bench", "type": "Other", "modelVersions": [version]}
    documents = {
        "/api/models/": {"id": REPO, "sha": COMMIT, "tags": [], "siblings": siblings},
        "/api/v1/model-versions/": version,
        "/api/v1/models/": model,
    }
    return {path: json.dumps(document).encode() for path, document in documents.items()}


def _described(path: Path) -> tuple[str, int, str]:
    with path.open("rb") as stream:
        return path.name, path.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest()


def _accept(server: socket.socket, folder: Path, latency: float, answers: Answers) -> None:
    while True:
        connection, _ = server.accept()
        arguments = (connection, folder, latency, answers)
        threading.Thread(target=_talk, args=arguments, daemon=True).start()


def _talk(connection: socket.socket, folder: Path, latency: float, answers: Answers) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        while head := _request(connection):
            time.sleep(latency)
            path = unquote(head.split(b" ", 2)[1].decode().partition("?")[0])
            told = next((text for start, text in answers.items() if path.startswith(start)), None)
            if told is not None:
                connection.sendall(_head(len(told), "application/json") + told)
                continue
            file = _file(folder, path)
            connection.sendall(_head(file.stat().st_size, "application/octet-stream"))
            with file.open("rb") as stream:
                _send(connection, stream.fileno(), file.stat().st_size)


def _file(folder: Path, path: str) -> Path:
    """The file that is asked for: of Civitai's version the first."""
    is_named = not path.startswith("/api/download/")
    return folder / path.rpartition("/")[2] if is_named else min(folder.iterdir())


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
