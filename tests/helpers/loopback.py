"""Two hosts on loopback for tests: a service, and another origin that its files come from.

What is answered is up to a `Handler`; here are the threads that serve it, what is written down of
the requests, and files that come as a test wants them: a part, broken off, or held back.
"""

from __future__ import annotations

import select
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self


@dataclass
class Instead:
    """An answer that is given instead, so many times, to requests below a path."""

    status: int
    times: int = 1
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    below: str = "/"
    after: int = 0
    """So many requests are answered as always before that."""

    def takes(self, path: str) -> bool:
        """Whether it is this request's turn; counts."""
        if self.times <= 0 or not path.startswith(self.below):
            return False
        self.after -= 1
        if self.after >= 0:
            return False
        self.times -= 1
        return True


@dataclass(kw_only=True)
class TwoHosts:
    """A service at `url`, and the host `cdn` of its files; use as a context manager."""

    instead: list[Instead] = field(default_factory=list)
    break_after: list[int] = field(default_factory=list)
    """Bytes of a file after which the connection is cut, for each of the next answers."""
    hold_after: int | None = None
    """Bytes of a file after which nothing more comes, until this is more, or None for all."""
    ranges: bool = True
    """Whether requests for a range are honoured."""
    users: dict[str, str] = field(default_factory=dict)
    """Token -> the name of its user."""
    requests: list[str] = field(default_factory=list)
    """What was asked for, as the handler writes it down."""
    tokens: dict[str, set[str | None]] = field(
        default_factory=lambda: {"service": set(), "cdn": set()}
    )
    """The `Authorization` headers that each host was sent."""

    @property
    def handler(self) -> type[Handler]:
        """What answers; the class is derived from for each host."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._servers = [
            _Server(("127.0.0.1", 0), type(name, (self.handler,), {"hosts": self, "host": name}))
            for name in ("service", "cdn")
        ]
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
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
        """The address of the service."""
        return f"http://127.0.0.1:{self._servers[0].server_port}"

    @property
    def cdn(self) -> str:
        """The address of the other host."""
        return f"http://localhost:{self._servers[1].server_port}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that are killed, as some tests want, are no news; all else is."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one of the hosts."""

    hosts: ClassVar[Any]
    host: ClassVar[str]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body is not to wait until its head was acknowledged

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""

    def noted(self, path: str, line: str) -> bool:
        """Write a request down; whether another answer was given in its place."""
        wanted = self.headers.get("Range", "")
        self.hosts.requests.append(f"{line} {wanted}".strip())
        self.hosts.tokens[self.host].add(self.headers.get("Authorization"))
        for one in self.hosts.instead:
            if one.takes(path):
                self.send(one.status, one.body, one.headers)
                return True
        return False

    def user(self) -> str | None:
        """Who asks, by the token."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return self.hosts.users.get(token)

    def send_file(self, data: bytes, headers: Mapping[str, str]) -> None:
        """The part of a file that is asked for; with If-Range only if its ETag is still that."""
        wanted = self.headers.get("Range", "") if self.hosts.ranges else ""
        tag = headers.get("ETag")
        if not wanted or self.headers.get("If-Range", tag) != tag:
            self.send(200, data, headers)
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(data)), len(data) - 1)
        if start >= len(data):
            self.send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        place = f"bytes {start}-{end}/{len(data)}"
        self.send(206, data[start : end + 1], {**headers, "Content-Range": place})

    def send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        """An answer; one of the other host breaks off, or is held back, where a test wants that."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD" or not body:
            return
        try:
            self._write(body)
        except ConnectionError:  # the client went, as some tests want
            self.close_connection = True

    def _write(self, body: bytes) -> None:
        """Raises ConnectionError."""
        if self.host == "cdn" and self.hosts.break_after:
            self.close_connection = True
            body = body[: self.hosts.break_after.pop(0)]
        sent = 0
        while sent < len(body):
            may_come = self.hosts.hold_after if self.host == "cdn" else None
            self.wfile.write(body[sent:may_come])
            sent = len(body) if may_come is None else max(sent, may_come)
            if sent < len(body) and select.select([self.connection], [], [], 0.01)[0]:
                raise ConnectionAbortedError  # a client has nothing more to say: it is gone
