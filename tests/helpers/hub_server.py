"""A small server on loopback that speaks the Hub's routes: a search, and one repository.

Routes and headers as huggingface_hub's client uses them (`file_download.py`, `hf_api.py`). As on
the Hub, model files are announced by their SHA-256 and handed out by another host, small files by
the name git gives them.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PIECE_BYTES = 1 << 16
LARGE = frozenset({".safetensors", ".ckpt", ".pt", ".bin"})


@dataclass
class Instead:
    """An answer that is given instead, so many times, to requests below a path."""

    status: int
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    below: str = "/"


@dataclass
class HubServer:
    """Serves `files` of `repo`; `announced` replaces the hash a file is announced with."""

    repo: str
    files: dict[str, bytes]
    announced: dict[str, str] = field(default_factory=dict)
    refusal: tuple[int, str | None] | None = None
    """Status and `X-Error-Code` with which every file is refused."""
    break_after: int | None = None
    """Bytes of a body after which the connection is cut, once."""
    withhold: int | None = None
    """After so many bytes of a body of the other host nothing comes until the client has gone."""
    xet: bool = False
    """Whether files of the other host are announced as those of Xet storage are."""
    ranges: bool = True
    """Whether requests for a range are honoured."""
    commit: str = COMMIT
    """What `main` is."""
    about: dict[str, Any] = field(default_factory=dict)
    """Fields of the repository's answer: `tags`, `gated`, `cardData`, …"""
    models: list[dict[str, Any]] = field(default_factory=list)
    """What a search finds, in this order, page by page."""
    page: int = 2
    users: dict[str, str] = field(default_factory=dict)
    """Token -> the name of its user."""
    sizes: bool = True
    """Whether the list of files tells sizes and hashes; that of some mirrors does not."""
    instead: list[Instead] = field(default_factory=list)
    queries: list[dict[str, list[str]]] = field(default_factory=list)
    """The parameters of every search."""
    together: threading.Barrier | None = None
    """Where requests for files of the other host wait until enough of them are there."""
    slow: float = 0.0
    """Seconds between the pieces of a file of the other host."""
    latency: float = 0.0
    """Seconds before any answer."""
    requests: list[str] = field(default_factory=list)
    """Method, path and range of every request; files of the other host are below `/cdn/`."""
    tokens: dict[str, set[str | None]] = field(default_factory=lambda: {"hub": set(), "cdn": set()})
    """The `Authorization` headers that each host was sent."""

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"hub": self})
        self._servers = [_Server(("127.0.0.1", 0), handler) for _ in range(2)]
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            for server in self._servers
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()

    @property
    def url(self) -> str:
        """What HF_ENDPOINT must be."""
        return f"http://127.0.0.1:{self._servers[0].server_port}"

    @property
    def cdn(self) -> str:
        """Another origin, which large files come from."""
        return f"http://localhost:{self._servers[1].server_port}"

    def sha256(self, name: str) -> str:
        """The hash the server announces."""
        return self.announced.get(name) or hashlib.sha256(self.files[name]).hexdigest()

    @property
    def fetched(self) -> list[str]:
        """The requests that asked for the bytes of a file."""
        return [line for line in self.requests if line.startswith("GET") and "/api/" not in line]


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that are killed, as some tests want, are no news; all else is."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    hub: ClassVar[HubServer]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        time.sleep(self.hub.latency)
        self.hub.requests.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        host = "cdn" if path.startswith("/cdn/") else "hub"
        self.hub.tokens[host].add(self.headers.get("Authorization"))
        if (instead := self._instead(path)) is not None:
            self._send(instead.status, instead.body, instead.headers)
        elif path == "/api/whoami-v2":
            self._whoami()
        elif path == "/api/models":
            self._search(parse_qs(urlsplit(self.path).query))
        elif host == "cdn":
            if self.hub.together is not None:
                self.hub.together.wait(60)
            self._body(self.hub.files[path.removeprefix("/cdn/")], {})
        elif path.startswith("/api/models/"):
            self._model(path.removeprefix("/api/models/"))
        elif path.startswith(f"/{self.hub.repo}/resolve/"):
            revision, _, name = path.split("/resolve/", 1)[1].partition("/")
            self._file(revision, name)
        else:
            self._error(404, "RepoNotFound")

    def _instead(self, path: str) -> Instead | None:
        for one in self.hub.instead:
            if one.times > 0 and path.startswith(one.below):
                one.times -= 1
                return one
        return None

    def _whoami(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token in self.hub.users:
            self._json({"name": self.hub.users[token], "type": "user"})
        else:
            self._error(401, None)

    def _search(self, query: dict[str, list[str]]) -> None:
        self.hub.queries.append(query)
        wanted = set(query.get("filter", []))
        text = query.get("search", [""])[0].lower()
        found = [
            model
            for model in self.hub.models
            if text in model["id"].lower() and wanted <= set(model["tags"])
        ]
        start = int(query.get("cursor", ["0"])[0])
        end = start + self.hub.page
        headers = {}
        if end < len(found):
            following = urlencode({**query, "cursor": [str(end)]}, doseq=True)
            headers["Link"] = f'<{self.hub.url}/api/models?{following}>; rel="next"'
        self._json(found[start:end], headers)

    def _json(self, document: object, headers: dict[str, str] | None = None) -> None:
        kind = {"Content-Type": "application/json"}
        self._send(200, json.dumps(document).encode(), {**kind, **(headers or {})})

    def _model(self, rest: str) -> None:
        repo, _, revision = rest.partition("/revision/")
        if repo != self.hub.repo:
            self._error(404, "RepoNotFound")
        elif revision and revision not in {"main", self.hub.commit}:
            self._error(404, "RevisionNotFound")
        else:
            siblings = [self._sibling(name) for name in self.hub.files]
            about = {"tags": [], "gated": False, **self.hub.about}
            self._json({"id": repo, "sha": self.hub.commit, "siblings": siblings, **about})

    def _sibling(self, name: str) -> dict[str, Any]:
        data = self.hub.files[name]
        if not self.hub.sizes:
            return {"rfilename": name}
        told: dict[str, Any] = {"rfilename": name, "size": len(data)}
        told["blobId"] = self.hub.announced.get(name) or _blob(data)
        if PurePosixPath(name).suffix in LARGE:
            told["lfs"] = {"sha256": self.hub.sha256(name), "size": len(data), "pointerSize": 134}
        return told

    def _file(self, revision: str, name: str) -> None:
        data = self.hub.files.get(name)
        if self.hub.refusal is not None:
            self._error(*self.hub.refusal)
        elif revision not in {"main", self.hub.commit}:
            self._error(404, "RevisionNotFound")
        elif data is None:
            self._error(404, "EntryNotFound")
        elif PurePosixPath(name).suffix in LARGE:
            headers = {
                "Location": f"{self.hub.cdn}/cdn/{quote(name)}",
                "X-Linked-Etag": f'"{self.hub.sha256(name)}"',
                "X-Linked-Size": str(len(data)),
                "X-Repo-Commit": self.hub.commit,
            }
            if self.hub.xet:
                headers |= {
                    "X-Xet-Hash": hashlib.sha256(name.encode()).hexdigest(),
                    "Link": f'<{self.hub.url}/api/xet-read-token>; rel="xet-auth", '
                    f'<{self.hub.url}/api/xet-reconstruction>; rel="xet-reconstruction-info"',
                }
            self._send(302, b"", headers)
        else:
            tag = self.hub.announced.get(name, _blob(data))
            self._body(data, {"ETag": f'"{tag}"', "X-Repo-Commit": self.hub.commit})

    def _body(self, data: bytes, headers: dict[str, str]) -> None:
        wanted = self.headers.get("Range", "") if self.hub.ranges else ""
        if not wanted:
            self._send(200, data, headers)
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(data)), len(data) - 1)
        place = f"bytes {start}-{end}/{len(data)}"
        self._send(206, data[start : end + 1], {**headers, "Content-Range": place})

    def _error(self, status: int, code: str | None) -> None:
        codes = {} if code is None else {"X-Error-Code": code}
        self._send(status, b"", {**codes, "X-Repo-Commit": self.hub.commit})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD" or not body:
            return
        limit = None
        if "/api/" not in self.path:
            limit, self.hub.break_after = self.hub.break_after, None
        self.close_connection = limit is not None
        self._write(body if limit is None else body[:limit])

    def _write(self, body: bytes) -> None:
        is_other = self.path.startswith("/cdn/")
        if is_other and self.hub.withhold is not None and len(body) > self.hub.withhold:
            self.wfile.write(body[: self.hub.withhold])
            self.connection.settimeout(60)
            self.connection.recv(1)  # nothing, when it has gone
            self.close_connection = True
            return
        slow = self.hub.slow if is_other else 0.0
        piece = PIECE_BYTES if slow else max(len(body), 1)
        try:
            for start in range(0, len(body), piece):
                time.sleep(slow)
                self.wfile.write(body[start : start + piece])
        except ConnectionError:  # the client was interrupted, as some tests want
            self.close_connection = True
