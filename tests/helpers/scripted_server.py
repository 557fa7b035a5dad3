"""A server on loopback whose answers are scripted byte by byte: for what no proper server does."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

_LINE = re.compile(rb"GET (\S+) HTTP/1.1")
_HEADER = re.compile(rb"\r\n([\w-]+): ([^\r]*)")


@dataclass(frozen=True)
class Request:
    """What was asked: header names are lower-case."""

    path: str
    headers: dict[str, str]

    @property
    def start(self) -> int | None:
        """Where the range that is asked for begins."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        return int(found[1]) if found else None


@dataclass
class Reply:
    """An answer; without a `status` the connection is closed instead.

    `length` is announced in the place of the body's own; None announces none. The connection is cut
    behind the body when that is shorter.
    """

    status: int | None = 200
    body: bytes = field(default=b"", repr=False)
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = -1
    then: threading.Event | None = None
    """What is waited for before the connection is cut."""


Answer = Callable[[Request], Reply]


@dataclass
class ScriptedServer:
    """Gives the answers of `script` one after the other, then always `usual`."""

    usual: Answer
    script: list[Answer] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    served: int = 0
    """Bytes of bodies that were sent."""

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()
        self._thread.join()

    def leave(self) -> None:
        """Nobody listens any more."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    @property
    def url(self) -> str:
        """Its address by number; `localhost` is another host."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def elsewhere(self) -> str:
        """The same server under the name of another host."""
        return f"http://localhost:{self._port}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            received = b""
            while True:
                while b"\r\n\r\n" not in received:
                    piece = connection.recv(65536)
                    if not piece:
                        return
                    received += piece
                head, _, received = received.partition(b"\r\n\r\n")
                if not self._reply(connection, head):
                    return

    def _reply(self, connection: socket.socket, head: bytes) -> bool:
        """Whether the connection can go on."""
        line = _LINE.match(head)
        assert line is not None
        found = {name.decode().lower(): value.decode() for name, value in _HEADER.findall(head)}
        request = Request(line[1].decode(), found)
        self.requests.append(request)
        reply = (self.script.pop(0) if self.script else self.usual)(request)
        if reply.status is None:
            return False
        length = len(reply.body) if reply.length == -1 else reply.length
        headers = dict(reply.headers)
        if length is not None:
            headers["Content-Length"] = str(length)
        lines = [f"HTTP/1.1 {reply.status} X", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        self.served += len(reply.body)  # before they leave: the client may be done at once
        connection.sendall("\r\n".join(lines).encode() + reply.body)
        if reply.then is not None:
            reply.then.wait(60)
        return length == len(reply.body)


@dataclass
class Content:
    """A file with a name for its state: how a proper server answers, and some improper ways."""

    data: bytes = field(repr=False)
    tag: str = '"one"'

    def proper(self, request: Request) -> Reply:
        """Ranges from a start, If-Range, and 416 for what lies behind the end."""
        start = request.start
        if start is None or request.headers.get("if-range", self.tag) != self.tag:
            return self.whole(request)
        if start >= len(self.data):
            return Reply(416, b"", {"Content-Range": f"bytes */{len(self.data)}"})
        return self.part(start)

    def whole(self, _: Request) -> Reply:
        """Ranges are not known."""
        return Reply(200, self.data, {"ETag": self.tag})

    def part(self, start: int, said: int | None = None) -> Reply:
        """From a start, or what is `said` to be one."""
        shown = start if said is None else said
        place = f"bytes {shown}-{len(self.data) - 1}/{len(self.data)}"
        return Reply(206, self.data[start:], {"ETag": self.tag, "Content-Range": place})

    def cut(self, count: int) -> Answer:
        """Proper, but cut after so many bytes."""

        def answer(request: Request) -> Reply:
            reply = self.proper(request)
            return Reply(reply.status, reply.body[:count], reply.headers, len(reply.body))

        return answer
