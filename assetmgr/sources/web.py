"""Requests to a service over HTTPS: its token stays at home, its limits are respected.

Redirects are followed here, one by one, and not by httpx: the token is a header that only requests
to the service's own origin get. Addresses are in no error and no log, because those of storage
hosts are signed. Statuses and Retry-After: RFC 9110.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from assetmgr import __version__
from assetmgr.sources.bodies import (
    ACCEPTED,
    MOST_ANSWER_BYTES,
    OtherEncoding,
    TooSlow,
    body_within,
)
from assetmgr.sources.origins import has_proxy, may_follow, same_origin
from assetmgr.sources.patience import BUSY, LONGEST_WAIT, TRIES, Pace, Unreachable, delay, pause
from assetmgr.sources.trust import begin_reading, certificates, distrusted, is_distrust
from converters.errors import AssetmgrError, NotAvailable
from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    import httpx

MOST_REDIRECTS = 5
_KEPT_HEADERS = frozenset({"range", "if-range", "accept-encoding", "user-agent"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONNECT_SECONDS, _READ_SECONDS = 10.0, 30.0


class BrokenOff(NotAvailable):
    """The connection was lost while an answer came; asking again may help."""


@dataclass(frozen=True)
class Web:
    """One service: what it is called, its address, the token for it, and where these are set.

    `cache` is the folder of its answers, `pace` how fast it may be asked, `longest_wait` how many
    seconds it may ask to be left alone for. Use as a context
    manager, or call `close`. Raises NotAvailable throughout.
    """

    name: str
    endpoint: str
    token: str | None = field(repr=False)
    setting: str
    cache: Path | None = None
    pace: Pace | None = None
    longest_wait: float = LONGEST_WAIT

    def __post_init__(self) -> None:
        begin_reading()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @contextmanager
    def open(
        self,
        path: str,
        subject: str,
        *,
        method: str = "GET",
        params: Mapping[str, str | list[str]] | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        progress: Progress = SILENT,
    ) -> Iterator[httpx.Response]:
        """The answer, its body unread, once the service is not too busy to give one.

        Its status may be any but a redirect. `subject` is what errors name.
        """
        import httpx

        if self.pace is not None:
            self.pace.wait(progress)
        with self.naming(subject):
            url = httpx.URL(self.endpoint + path)
            url = url.copy_merge_params(params) if params else url
            request = self._request(method, url, json, headers)
            answer = self._patiently(request, subject, progress)
            try:
                yield answer
            finally:
                answer.close()

    @contextmanager
    def open_elsewhere(
        self, address: str, subject: str, *, progress: Progress = SILENT
    ) -> Iterator[httpx.Response]:
        """The answer at a whole address that the service named; only its own gets the token."""
        import httpx

        with self.naming(subject):
            answer = self._patiently(self._to(httpx.URL(address), {}, subject), subject, progress)
            try:
                yield answer
            finally:
                answer.close()

    def read(self, answer: httpx.Response, subject: str, most: int = MOST_ANSWER_BYTES) -> bytes:
        """The body of an answer that is no file, of at most so many bytes."""
        body = self.beginning(answer, subject, most + 1)
        if len(body) > most:
            raise self.unfit(subject)
        return body

    def beginning(self, answer: httpx.Response, subject: str, most: int) -> bytes:
        """The body of such an answer, cut at so many bytes."""
        with self.naming(subject):
            try:
                return body_within(answer, most)
            except OtherEncoding:
                raise self.unfit(subject) from None
            except TooSlow:
                cause = f"{self.name} answers too slowly"
                raise NotAvailable(cause, path=subject, hint="try again later") from None

    def unfit(self, subject: str) -> AssetmgrError:
        """The error of an answer that this service would not give."""
        cause, hint = f"the answer is not that of {self.name}", f"check {self.setting}"
        return NotAvailable(cause, path=subject, hint=hint)

    @contextmanager
    def naming(self, subject: str) -> Iterator[None]:
        """The errors of httpx as ours; theirs are dropped, because they may name addresses."""
        import httpx

        try:
            yield
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise NotAvailable(
                f"{self.setting} is not a web address", path=subject, hint="unset it"
            ) from None
        except (httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError):
            hint = "the same command goes on"
            raise BrokenOff("the connection broke off", path=subject, hint=hint) from None
        except httpx.HTTPError as error:
            if is_distrust(error):
                raise distrusted(self.name, subject) from None
            hint = f"check the connection and {self.setting}"
            cause = f"{self.name} cannot be reached"
            raise Unreachable(cause, path=subject, hint=hint) from None

    def is_home(self, url: httpx.URL) -> bool:
        """Whether an address is of the service itself, not of a host that it sends requests to."""
        import httpx

        return same_origin(httpx.URL(self.endpoint), url)

    def pause(self, seconds: float, progress: Progress) -> None:
        """Wait, in pieces, so that a cancellation is not waited for. Raises Cancelled."""
        pause(seconds, progress)

    @cached_property
    def _client(self) -> httpx.Client:
        import httpx

        from assetmgr.sources.transfers.direct import Transport

        # It would log addresses, which may be signed.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        timeout = httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS)
        # A name that is no browser's: those get pages where programs get errors.
        named = {"User-Agent": f"assetmgr/{__version__}", "Accept-Encoding": ACCEPTED}
        transport = None if has_proxy() else Transport()
        return httpx.Client(
            timeout=timeout, headers=named, transport=transport, verify=certificates()
        )

    def _request(
        self, method: str, url: httpx.URL, json: object, headers: Mapping[str, str] | None
    ) -> httpx.Request:
        own = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        return self._client.build_request(
            method, url, headers={**(headers or {}), **own}, json=json
        )

    def _patiently(
        self, request: httpx.Request, subject: str, progress: Progress
    ) -> httpx.Response:
        """Ask again while the service is busy, as late as it wants; the last answer is given."""
        for attempt in range(TRIES):
            answer = self._follow(request, subject)
            if answer.status_code not in BUSY or attempt == TRIES - 1:
                return answer
            answer.close()
            wait = delay(self.name, subject, answer.headers, attempt, self.longest_wait)
            progress.message(f"{self.name} is busy, asking again in {wait:.0f} s")
            self.pause(wait, progress)
        raise AssertionError("the last attempt returns")

    def _follow(self, request: httpx.Request, subject: str) -> httpx.Response:
        for _ in range(MOST_REDIRECTS + 1):
            with self._leading(subject):
                answer = self._client.send(request, stream=True)
                if answer.status_code not in _REDIRECTS:
                    return answer
                answer.close()
                target = request.url.join(answer.headers.get("Location", ""))
            request = self._to(target, request.headers, subject)
        raise NotAvailable(f"{self.name} leads in circles", path=subject)

    @contextmanager
    def _leading(self, subject: str) -> Iterator[None]:
        """What httpx says of a redirect to what is no address, which it looks at unasked, as ours.

        It calls that a break of the protocol, as where a connection breaks off: no use to go on.
        """
        import httpx

        try:
            yield
        except (httpx.InvalidURL, httpx.RemoteProtocolError) as error:
            if httpx.InvalidURL in {type(error), type(error.__context__)}:
                raise self._unsafe(subject) from None
            raise

    def _unsafe(self, subject: str) -> AssetmgrError:
        return NotAvailable(f"{self.name} leads to an unsafe address", path=subject)

    def _to(self, target: httpx.URL, headers: Mapping[str, str], subject: str) -> httpx.Request:
        """A request to an address that an answer named. Raises NotAvailable for an unsafe one."""
        import httpx

        home = httpx.URL(self.endpoint)
        if not may_follow(home, target):
            raise self._unsafe(subject)
        kept = {name: value for name, value in headers.items() if name in _KEPT_HEADERS}
        if same_origin(home, target) and self.token is not None:
            kept["Authorization"] = f"Bearer {self.token}"
        return self._client.build_request("GET", target, headers=kept)
