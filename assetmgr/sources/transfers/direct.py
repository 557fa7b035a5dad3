"""Bodies of answers straight from the socket into memory of ours.

httpx reads 64 KB at a time and copies them thrice; beside threads that hash, taking turns for the
interpreter then costs several times as much as the bytes. So that a body can be read past it, a
connection hands out the head of an answer alone first. Built on httpcore's documented network
backends (https://www.encode.io/httpcore/network-backends/).
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

from assetmgr.sources.trust import certificates

if TYPE_CHECKING:
    from httpcore import SOCKET_OPTION

WORTHWHILE_BYTES = 1 << 20
"""From so many bytes on a connection is given up for the speed."""

SLICE_SECONDS = 0.5
"""So long a read waits; then it raises TimeoutError, and can be tried again."""

_END = b"\r\n\r\n"
_LONGEST_HEAD = 1 << 20
_HEAD_SECONDS = 30.0
"""From the first byte of a head to its last."""


class Transport(httpx.HTTPTransport):
    """That of httpx, over connections whose bodies can be read directly."""

    def __init__(self) -> None:
        super().__init__(verify=certificates())
        # It has no way to be given a backend, although its pool has.
        self._pool = httpcore.ConnectionPool(
            ssl_context=certificates(),
            max_connections=100,
            max_keepalive_connections=100,
            keepalive_expiry=5.0,
            network_backend=_Backend(),
        )


Read = Callable[[memoryview], int]
"""Puts the next bytes into memory and gives their number, 0 at the end."""


def body_of(answer: httpx.Response) -> Read:
    """How to read the body of an answer. What it raises is an OSError, or an error of httpx.

    Small bodies come through httpx, which can use the connection again then; so do those whose
    length is not known, and those that come through a proxy.
    """
    stream = answer.extensions.get("network_stream")
    length = answer.headers.get("Content-Length", "")
    is_large = length.isdigit() and int(length) >= WORTHWHILE_BYTES
    is_plain = is_large and "Transfer-Encoding" not in answer.headers
    if is_plain and isinstance(stream, DirectStream) and stream.at_body:
        return _Bounded(stream, int(length)).read
    return _Pieces(answer.iter_raw()).read


class _Bounded:
    """A body of a length; what follows on the connection is not of it."""

    def __init__(self, stream: DirectStream, length: int) -> None:
        self._stream, self._left = stream, length
        stream.get_extra_info("socket").settimeout(SLICE_SECONDS)

    def read(self, view: memoryview) -> int:
        count = self._stream.readinto(view[: self._left]) if self._left else 0
        self._left -= count
        return count


class _Pieces:
    """A body in pieces that somebody else has cut."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, memoryview(b"")

    def read(self, view: memoryview) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(self._rest), len(view))
        view[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


class DirectStream(httpcore.NetworkStream):
    """A connection that gives the head of each answer by itself."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner
        self._head = bytearray()
        self._rest = b""
        self._begun = 0.0
        self._in_head = True
        self.at_body = False

    def readinto(self, view: memoryview) -> int:
        """The next bytes of the body, at least one; 0 at the end. Raises OSError."""
        if self._rest:
            count = min(len(self._rest), len(view))
            view[:count], self._rest = self._rest[:count], self._rest[count:]
            return count
        received: int = self._inner.get_extra_info("socket").recv_into(view)
        return received

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """For httpx: up to the end of the head, then anything."""
        if self._in_head:
            data = self._inner.read(max_bytes, timeout)
            if self._head and time.monotonic() - self._begun > _HEAD_SECONDS:
                raise httpcore.ReadTimeout("the head of the answer does not end")
            return self._up_to_body(data)
        self.at_body = False
        rest, self._rest = self._rest, b""
        return rest or self._inner.read(max_bytes, timeout)

    def _up_to_body(self, data: bytes) -> bytes:
        before = len(self._head)
        if not before:
            self._begun = time.monotonic()
        self._head += data
        end = self._head.find(_END)
        if end < 0:
            self._in_head = bool(data) and len(self._head) < _LONGEST_HEAD
            return data
        split = end + len(_END) - before
        self._rest, self._in_head, self.at_body = data[split:], False, True
        return data[:split]

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """A request: the head of its answer comes next."""
        self._head.clear()
        self._in_head, self.at_body = True, False
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        """End the connection."""
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        """The same over TLS."""
        return DirectStream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """What the connection itself tells."""
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    def __init__(self) -> None:
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        return DirectStream(
            self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        )

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)
