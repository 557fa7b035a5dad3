"""Connections of huggingface_hub's client that notice when next to nothing comes over them.

Its time limits are those of single reads: an answer whose bytes drip would be waited for without
end. Built on httpcore's network backends (https://www.encode.io/httpcore/network-backends/).
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import httpcore2
import httpx2

from assetmgr.sources.transfers.trickle import Trickle
from assetmgr.sources.trust import certificates

if TYPE_CHECKING:
    from httpcore2 import SOCKET_OPTION


class WatchedTransport(httpx2.HTTPTransport):
    """That of httpx2, over connections that are watched."""

    def __init__(self) -> None:
        super().__init__(verify=certificates())
        # It has no way to be given a backend, although its pool has.
        self._pool = httpcore2.ConnectionPool(
            ssl_context=certificates(), network_backend=_Backend()
        )


class _Watched(httpcore2.NetworkStream):
    """A connection whose answers do not drip. What comes first may be long in coming."""

    def __init__(self, inner: httpcore2.NetworkStream) -> None:
        self._inner = inner
        self._trickle: Trickle | None = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        started = time.monotonic()
        data = self._inner.read(max_bytes, timeout)
        if self._trickle is None:
            self._trickle = Trickle()
        elif self._trickle.is_one(time.monotonic() - started, len(data)):
            raise httpcore2.ReadTimeout("next to nothing comes")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._trickle = None
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        return _Watched(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore2.NetworkBackend):
    def __init__(self) -> None:
        self._inner = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        return _Watched(self._inner.connect_tcp(host, port, timeout, local_address, socket_options))

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)
