"""A small server on loopback that speaks the Hub's routes for one repository.

Routes and headers as huggingface_hub's client uses them (`file_download.py`, `hf_api.py`).
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import ClassVar, Self
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubServer:
    """Serves `files` of `repo`; `announced` replaces the hash a file is announced with."""

    repo: str
    files: dict[str, bytes]
    announced: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    break_after: int | None = None
    """Bytes of a file after which the connection is cut, once."""
    requests: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """What HF_ENDPOINT must be."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def sha256(self, name: str) -> str:
        """The hash the server announces."""
        return self.announced.get(name) or hashlib.sha256(self.files[name]).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: ClassVar[HubServer]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        if path.startswith("/api/models/"):
            self._model(path.removeprefix("/api/models/"), with_body=with_body)
        elif f"/{self.hub.repo}/resolve/" in path:
            name = path.split("/resolve/", 1)[1].split("/", 1)[1]
            self._file(name, with_body=with_body)
        else:
            self._error(404, "RepoNotFound")

    def _model(self, rest: str, *, with_body: bool) -> None:
        if rest.split("/revision/", maxsplit=1)[0] != self.hub.repo:
            self._error(404, "RepoNotFound")
            return
        siblings = [{"rfilename": name} for name in self.hub.files]
        document = {"id": self.hub.repo, "sha": COMMIT, "siblings": siblings, "tags": []}
        self._send(
            200, json.dumps(document).encode(), {"Content-Type": "application/json"}, with_body
        )

    def _file(self, name: str, *, with_body: bool) -> None:
        if self.hub.gated:
            self._error(403, "GatedRepo")
            return
        data = self.hub.files.get(name)
        if data is None:
            self._error(404, "EntryNotFound")
            return
        headers = {
            "ETag": f'"{self.hub.sha256(name)}"',
            "X-Linked-Etag": f'"{self.hub.sha256(name)}"',
            "X-Linked-Size": str(len(data)),
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        start = 0
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes="):
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(206 if wanted else 200, data[start:], headers, with_body)

    def _error(self, status: int, code: str) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Repo-Commit": COMMIT}, True)

    def _send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not with_body:
            return
        limit, self.hub.break_after = self.hub.break_after, None
        self.wfile.write(body if limit is None else body[:limit])
        if limit is not None:
            self.close_connection = True
