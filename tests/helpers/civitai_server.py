"""A small server on loopback that speaks Civitai's routes; files come from another host.

Routes and fields: the site's own code, `civitai/civitai` `src/pages/api/v1/**` and
`src/pages/api/download/models/[modelVersionId].ts`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import parse_qs, urlsplit

from blake3 import blake3

Document = dict[str, Any]

PIECE_BYTES = 1 << 16


@dataclass
class Busy:
    """An answer that is given instead, so many times, to requests below a path."""

    status: int
    times: int = 1
    retry_after: str | None = "0"
    below: str = "/"
    body: bytes = b'{"error":"busy"}'
    headers: Mapping[str, str] = field(default_factory=dict)
    after: int = 0
    """So many requests are answered as always before that."""


@dataclass
class CivitaiServer:
    """Serves `models` (as the site describes them) and the bytes of files by their numbers."""

    models: list[Document] = field(default_factory=list)
    contents: dict[int, bytes] = field(default_factory=dict)
    instead: list[Busy] = field(default_factory=list)
    break_after: list[int] = field(default_factory=list)
    """Bytes of a file after which the connection is cut, for each of the next answers."""
    hold_after: int | None = None
    """Bytes of a file after which nothing more comes until the client goes."""
    slow: float = 0.0
    """Seconds between the pieces of a file."""
    ranges: bool = True
    tags: bool = True
    """Whether files have an ETag."""
    page: int = 2
    """Models on a page of a search."""
    location: str | None = None
    """Where downloads lead, if not to the other host."""
    file_headers: dict[str, str] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict)
    """Token -> the name of its user."""
    unchanged: int = 0
    """How many answers were that nothing has changed."""
    requests: list[str] = field(default_factory=list)
    """Method, path with query, and range of every request; the other host's begin with `cdn`."""
    tokens: dict[str, set[str | None]] = field(
        default_factory=lambda: {"site": set(), "cdn": set()}
    )
    """The `Authorization` headers that each host was sent."""

    def __enter__(self) -> Self:
        self._servers: list[_Server] = []
        for host in ("site", "cdn"):
            handler = type("Handler", (_Handler,), {"site": self, "host": host})
            self._servers.append(_Server(("127.0.0.1", 0), handler))
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
        """What CIVITAI_ENDPOINT must be."""
        return f"http://127.0.0.1:{self._servers[0].server_port}"

    @property
    def cdn(self) -> str:
        """Another origin, which files come from."""
        return f"http://localhost:{self._servers[1].server_port}"

    @property
    def fetched(self) -> list[str]:
        """The requests that reached the bytes of a file."""
        return [line for line in self.requests if line.startswith("cdn ")]

    def add(
        self, number: int, files: Mapping[str, bytes], *, model: int | None = None, **fields: object
    ) -> Document:
        """A version with files; in a model of its own unless that is there. Gives the version."""
        listed = []
        for place, (name, content) in enumerate(files.items()):
            file_number = number * 10 + place
            self.contents[file_number] = content
            listed.append(_file(file_number, name, content, primary=not place))
        version: Document = {
            "id": number,
            "name": f"v{number}",
            "baseModel": "SD 1.5",
            "trainedWords": [],
            "publishedAt": "2024-01-02T03:04:05.000Z",
            "files": listed,
            **fields,
        }
        owner = number + 1000 if model is None else model
        self._model(owner)["modelVersions"].append(version)
        return version

    def _model(self, number: int) -> Document:
        for known in self.models:
            if known["id"] == number:
                return known
        made: Document = {
            "id": number,
            "name": f"Model {number}",
            "type": "LORA",
            "nsfw": False,
            "creator": {"username": "somebody"},
            "tags": ["style"],
            "stats": {"downloadCount": 1234},
            "allowNoCredit": True,
            "allowCommercialUse": ["Image", "Rent"],
            "allowDerivatives": True,
            "allowDifferentLicense": False,
            "modelVersions": [],
        }
        self.models.append(made)
        return made

    def versions(self) -> list[Document]:
        """All versions as their own route gives them: with the number and name of their model."""
        return [
            {
                **version,
                "modelId": model["id"],
                "model": {"name": model["name"], "type": model["type"]},
            }
            for model in self.models
            for version in model["modelVersions"]
        ]

    def with_hash(self, digest: str) -> list[Document]:
        """The versions of which a file has a hash, of any sort."""
        return [
            version
            for version in self.versions()
            if any(digest.upper() in file["hashes"].values() for file in version["files"])
        ]


def _file(number: int, name: str, content: bytes, *, primary: bool) -> Document:
    sha256 = hashlib.sha256(content).hexdigest().upper()
    hashes = {
        "SHA256": sha256,
        "AutoV2": sha256[:10],
        "BLAKE3": blake3(content).hexdigest().upper(),
    }
    if name.endswith(".safetensors"):
        start = 8 + int.from_bytes(content[:8], "little")
        hashes["AutoV3"] = hashlib.sha256(content[start:]).hexdigest().upper()[:12]
    return {
        "id": number,
        "name": name,
        "type": "Model",
        "sizeKB": len(content) / 1024,
        "primary": primary,
        "metadata": {"format": "SafeTensor", "size": "pruned", "fp": "fp16"},
        "hashes": hashes,
        "pickleScanResult": "Success",
        "virusScanResult": "Success",
    }


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that are killed, as some tests want, are no news; all else is."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    site: ClassVar[CivitaiServer]
    host: ClassVar[str]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        site, parts = self.site, urlsplit(self.path)
        shown = f"{'cdn ' if self.host == 'cdn' else ''}{self.command} {self.path}"
        site.requests.append(f"{shown} {self.headers.get('Range', '')}".strip())
        site.tokens[self.host].add(self.headers.get("Authorization"))
        for busy in site.instead:
            if busy.times > 0 and parts.path.startswith(busy.below):
                busy.after -= 1
                if busy.after >= 0:
                    continue
                busy.times -= 1
                wait = {} if busy.retry_after is None else {"Retry-After": busy.retry_after}
                self._send(busy.status, busy.body, {**wait, **busy.headers})
                return
        if self.host == "cdn":
            self._content(site.contents[int(parts.path.rsplit("/", 1)[1])])
            return
        self._route(parts.path, parse_qs(parts.query), body)

    def _route(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        if path == "/api/v1/models":
            self._json(200, self._page(query))
        elif path == "/api/v1/me":
            self._me()
        elif path == "/api/v1/model-versions/by-hash":
            found = [v for digest in json.loads(body) for v in self.site.with_hash(digest)]
            self._json(200, found)
        elif match := re.fullmatch(r"/api/v1/model-versions/by-hash/(\w+)", path):
            self._first(self.site.with_hash(match[1]))
        elif match := re.fullmatch(r"/api/v1/model-versions/(\d+)", path):
            self._first([v for v in self.site.versions() if v["id"] == int(match[1])])
        elif match := re.fullmatch(r"/api/v1/models/(\d+)", path):
            self._first([m for m in self.site.models if m["id"] == int(match[1])])
        elif match := re.fullmatch(r"/api/download/models/(\d+)", path):
            number = query["fileId"][0]
            place = self.site.location or f"{self.site.cdn}/signed/{number}?signature=s3cret"
            self._send(302, b"", {"Location": place})
        else:
            self._json(404, {"error": "not found"})

    def _me(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token in self.site.users:
            self._json(200, {"id": 1, "username": self.site.users[token]})
        else:
            self._json(401, {"error": "Unauthorized"})

    def _page(self, query: dict[str, list[str]]) -> Document:
        wanted = [
            model
            for model in self.site.models
            if query.get("query", [""])[0].lower() in model["name"].lower()
            and model["type"] in query.get("types", [model["type"]])
        ]
        start = int(query.get("cursor", ["0"])[0])
        end = start + min(self.site.page, int(query["limit"][0]))
        more = {"nextCursor": str(end)} if end < len(wanted) else {}
        return {"items": wanted[start:end], "metadata": more}

    def _first(self, found: list[Document]) -> None:
        if found:
            self._json(200, found[0])
        else:
            self._json(404, {"error": "Model not found"})

    def _json(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        tag = f'W/"{hashlib.md5(body).hexdigest()}"'
        headers = {"Content-Type": "application/json", "ETag": tag}
        if status == 200 and self.headers.get("If-None-Match") == tag:
            self.site.unchanged += 1
            self._send(304, b"", headers)
        else:
            self._send(status, body, headers)

    def _content(self, data: bytes) -> None:
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        headers = {"Content-Type": "binary/octet-stream", **self.site.file_headers}
        if self.site.tags:
            headers["ETag"] = tag
        wanted = self.headers.get("Range", "") if self.site.ranges else ""
        if not wanted or self.headers.get("If-Range", tag) != tag:
            self._send(200, data, headers)
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(data)) + 1, len(data))
        if start >= len(data):
            self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        place = f"bytes {start}-{end - 1}/{len(data)}"
        self._send(206, data[start:end], {**headers, "Content-Range": place})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        limit = None
        if self.host == "cdn" and self.site.break_after:
            limit = self.site.break_after.pop(0)
            self.close_connection = True
        if self.host == "cdn" and self.site.hold_after is not None:
            self._write(body[: self.site.hold_after])
            self._await_the_end()
        else:
            self._write(body if limit is None else body[:limit])

    def _await_the_end(self) -> None:
        with contextlib.suppress(ConnectionError):
            self.connection.recv(1)
        self.close_connection = True

    def _write(self, body: bytes) -> None:
        slow = self.site.slow if self.host == "cdn" else 0.0
        piece = PIECE_BYTES if slow else max(len(body), 1)
        try:
            for start in range(0, len(body), piece):
                if slow:
                    time.sleep(slow)
                self.wfile.write(body[start : start + piece])
        except ConnectionError:  # the client was interrupted, as some tests want
            self.close_connection = True
