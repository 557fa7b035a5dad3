"""The services that files are downloaded from: one row each, and their connections."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from converters.errors import UnsupportedFile
from converters.progress import Progress

if TYPE_CHECKING:
    from assetmgr.operations.downloads.registering import Received
    from assetmgr.sources.transfers.bandwidth import Bandwidth
    from assetmgr.sources.web import Web
    from assetmgr.workspace import Workspace
    from registry.downloads.records import Wanted


class Bring(Protocol):
    """Fetches what is wanted into the library. Raises what `receive` raises."""

    def __call__(
        self,
        workspace: Workspace,
        wanted: Wanted,
        web: Web,
        limit: Bandwidth,
        progress: Progress,
        /,
    ) -> Received:
        """Called in a thread of its own."""


@dataclass(frozen=True, slots=True)
class Service:
    """How to connect to a service, and how to bring a file of it."""

    connect: Callable[[], Web]
    bring: Bring


def _huggingface() -> Service:
    from assetmgr.operations.hub.receive import bring
    from assetmgr.sources.hub.files import connect

    return Service(connect, bring)


def _civitai() -> Service:
    from assetmgr.operations.civitai.receive import bring
    from assetmgr.sources.civitai.site import connect

    return Service(connect, bring)


SERVICES: Mapping[str, Callable[[], Service]] = {"huggingface": _huggingface, "civitai": _civitai}
"""The service's word in the queue -> its row; imported only when it is used."""


class Connections:
    """One client per service, shared by all threads, so that connections are used again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._webs: dict[str, Web] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def bring(
        self, workspace: Workspace, wanted: Wanted, limit: Bandwidth, progress: Progress
    ) -> Received:
        """Fetch what is wanted into the library, over the connection of its service."""
        if wanted.service not in SERVICES:
            cause = f"this version knows no service {wanted.service!r}"
            raise UnsupportedFile(cause, path=wanted.label)
        service = SERVICES[wanted.service]()
        return service.bring(workspace, wanted, self._web(wanted.service, service), limit, progress)

    def _web(self, name: str, service: Service) -> Web:
        with self._lock:
            if name not in self._webs:
                self._webs[name] = self._open.enter_context(service.connect())
            return self._webs[name]
