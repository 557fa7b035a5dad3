"""A file on its way from a server to the disk: resumed where it broke off, hashed as it comes.

Range, If-Range and Content-Range: RFC 9110. What the server calls this state of the file (ETag, or
Last-Modified) is kept beside the bytes, so that bytes of two states are never put together.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from assetmgr.sources.patience import Unreachable
from assetmgr.sources.transfers.bandwidth import Bandwidth
from assetmgr.sources.transfers.lines import GOES_ON, Expired, Perseverance, Pulse
from assetmgr.sources.transfers.sink import Arrived, Sink
from assetmgr.sources.transfers.unforeseen import Unforeseen
from assetmgr.sources.web import BrokenOff, Web
from converters.errors import AssetmgrError, NotAvailable
from converters.progress import Progress
from converters.writers.atomic import TEMPORARY_SUFFIX, naming, refuse_full

if TYPE_CHECKING:
    import httpx

SIZE_TOLERANCE = 1024
"""Bytes; announced sizes are in kilobytes, which someone may have rounded."""

_PLACE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")
_PAGE = re.compile(rb"\s*<(?:!doctype|html|head|body)\b", re.IGNORECASE)
_OBJECT = re.compile(rb'\s*\{\s*"[^\0-\x08\x0b\x0c\x0e-\x1f]*\Z')
"""A safetensors header's length may read `{"`, too: no text goes on with control characters."""
_MOST_TAG = 1000
_BEGINNING = 512
_EXPIRED = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
"""How storage hosts refuse an address whose signature is too old."""


Refusal = Callable[[Web, int, bytes, str], AssetmgrError]
"""The error of an answer that is no success: of its status, its body, and the subject."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """The file at a path of a service; `size` is what was announced, in bytes.

    What is `pinned` can only ever have one content: any beginning of it can be gone on with, of
    anything else only one with the name that the server gave to the same state of the file.
    """

    web: Web
    path: str
    name: str
    part: Path
    size: int | None
    refusal: Refusal
    pinned: bool = False
    limit: Bandwidth = field(default_factory=Bandwidth)

    def run(self, progress: Progress) -> Arrived:
        """Fetch what is missing in `part`.

        Raises NotAvailable, what `refusal` gives, DiskFull, WriteFailed, Cancelled. Whatever has
        come before stays in `part`.
        """
        with Sink(self.part, self.size) as sink:
            self._begin(sink, progress)
            self._patiently(sink, progress)
            return sink.finish()

    def _begin(self, sink: Sink, progress: Progress) -> None:
        """Take up what an earlier call left, if the server can be asked to go on behind it."""
        progress.stage(f"downloading {self.name}", self.size)
        too_long = self.pinned and self.size is not None and self._kept() > self.size
        if too_long or not (self.pinned or self._tag()):
            sink.restart()
        else:
            progress.advance(sink.take_up())

    def _kept(self) -> int:
        with naming(self.part):
            return self.part.stat().st_size

    def _patiently(self, sink: Sink, progress: Progress) -> None:
        patience = Perseverance(sink.have)
        while True:
            try:
                if self._once(sink, progress):
                    return
            except (BrokenOff, Unreachable) as error:
                wait = patience.wait(error, sink.have)
                if wait is None:
                    raise
                progress.message(f"{self.name}: {error.cause}, going on")
                self.web.pause(wait, progress)

    def _once(self, sink: Sink, progress: Progress) -> bool:
        """Ask for what is missing; False when it has to be asked for anew."""
        if self.pinned and sink.have and sink.have == self.size:
            return True
        with self.web.open(
            self.path, self.name, headers=self._headers(sink), progress=progress
        ) as answer:
            if answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return self._is_whole(answer, sink)
            if self._is_of_another_state(answer, sink):
                sink.restart()
                progress.stage(f"downloading {self.name}", self.size)
                return False
            total = self._expected(answer, sink, progress)
            self._keep_tag(answer)
            self._receive(answer, sink, total, progress)
        if total is not None and sink.have != total:
            raise BrokenOff("the connection broke off", path=self.name, hint=GOES_ON)
        return True

    def _headers(self, sink: Sink) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}
        tag = None if self.pinned else self._tag()
        if sink.have and (self.pinned or tag):
            headers["Range"] = f"bytes={sink.have}-"
        if sink.have and tag:
            headers["If-Range"] = tag
        return headers

    def _receive(
        self, answer: httpx.Response, sink: Sink, total: int | None, progress: Progress
    ) -> None:
        """Bring the body into the sink, as fast as connection, disk and limit allow."""
        from assetmgr.sources.transfers.direct import body_of  # brings httpx with it

        read = body_of(answer)
        pulse = Pulse(self.name)
        unforeseen = None if total is not None or self.size is not None else Unforeseen(self.part)
        while True:
            view = sink.room()
            count = pulse.feel(functools.partial(read, view))
            if count is None:  # nothing yet: time to notice that it is to stop
                sink.took(0)
                progress.advance(0)
                continue
            if not count:
                return
            if not sink.have:
                self._refuse_beginning(bytes(view[: min(count, _BEGINNING)]))
            sink.took(count)
            if unforeseen is not None:
                unforeseen.refuse_full(sink.have)
            if self.size is not None and sink.have > self.size + SIZE_TOLERANCE:
                raise self._other_size(sink.have)
            progress.advance(count)
            wait = self.limit.take(count)
            if wait > 0:
                self.web.pause(wait, progress)

    def _is_whole(self, answer: httpx.Response, sink: Sink) -> bool:
        """Nothing lies behind the bytes we have: they are all, or none of this file."""
        place = _PLACE.fullmatch(answer.headers.get("Content-Range", ""))
        if place is not None and int(place[3]) == sink.have:
            return True
        if not sink.have:
            raise NotAvailable("the server gives no bytes of the file", path=self.name)
        sink.restart()
        return False

    def _expected(self, answer: httpx.Response, sink: Sink, progress: Progress) -> int | None:
        """How many bytes the whole file has; all that speaks against it is found before one comes.

        Raises what the answer means, or DiskFull.
        """
        if answer.status_code not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            raise self._refused(answer)
        self._refuse_other_content(answer)
        total: int | None
        if answer.status_code == HTTPStatus.PARTIAL_CONTENT:
            total = self._total_of_part(answer, sink)
        else:
            if sink.have:
                sink.restart()
                progress.stage(f"downloading {self.name}", self.size)
            total = self._length(answer)
        if total is not None:
            self._refuse_other_size(total)
        refuse_full(self.part, (total or self.size or 0) - sink.have)
        return total

    def _refused(self, answer: httpx.Response) -> AssetmgrError:
        """What the answer means; the expired address of a storage host is asked for anew."""
        body = self.web.read(answer, self.name)
        error = self.refusal(self.web, answer.status_code, body, self.name)
        if answer.status_code in _EXPIRED and not self.web.is_home(answer.url):
            return Expired(error.cause, path=error.path, hint=error.hint)
        return error

    def _is_of_another_state(self, answer: httpx.Response, sink: Sink) -> bool:
        """Whether a server gives a part of a file that has changed, although it was told not to."""
        is_part = answer.status_code == HTTPStatus.PARTIAL_CONTENT and not self.pinned
        return is_part and bool(sink.have) and _state_of(answer) != self._tag()

    def _total_of_part(self, answer: httpx.Response, sink: Sink) -> int:
        place = _PLACE.fullmatch(answer.headers.get("Content-Range", ""))
        if place is None or place[1] is None or int(place[1]) != sink.have:
            raise NotAvailable("the server gave another part of the file", path=self.name)
        return int(place[3])

    def _length(self, answer: httpx.Response) -> int | None:
        length = answer.headers.get("Content-Length", "")
        return int(length) if length.isdigit() else None

    def _refuse_other_size(self, total: int) -> None:
        if self.size is not None and abs(total - self.size) > SIZE_TOLERANCE:
            raise self._other_size(total)

    def _other_size(self, total: int) -> AssetmgrError:
        cause = f"the server has {total:,} bytes, announced were {self.size:,}"
        return NotAvailable(cause, path=self.name, hint="try again later")

    def _refuse_other_content(self, answer: httpx.Response) -> None:
        """Raises NotAvailable for a page or a message that comes in the place of a file."""
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise NotAvailable("the server gives the file in another form", path=self.name)
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind == "text/html" and not self._may_be(".html", ".htm"):
            raise self._is_other("a web page")
        if kind == "application/json" and not self._may_be(".json"):
            body = self.web.read(answer, self.name)
            raise self.refusal(self.web, answer.status_code, body, self.name)

    def _refuse_beginning(self, piece: bytes) -> None:
        if _PAGE.match(piece) and not self._may_be(".html", ".htm", ".md"):
            raise self._is_other("a web page")
        if _OBJECT.match(piece) and not self.pinned and not self._may_be(".json"):
            raise self._is_other("a JSON text")

    def _may_be(self, *suffixes: str) -> bool:
        return PurePosixPath(self.name).suffix.lower() in suffixes

    def _is_other(self, what: str) -> AssetmgrError:
        hint = "the file may need a login" if self.web.token is None else "try again later"
        return NotAvailable(
            f"the server gives {what} instead of the file", path=self.name, hint=hint
        )

    def _tag(self) -> str | None:
        """What the server called the state of the file that the bytes are of."""
        try:
            with tag_of(self.part).open("rb") as stream:
                text = stream.read(_MOST_TAG + 1).decode("ascii")
        except (OSError, UnicodeDecodeError):
            return None
        return text if 0 < len(text) <= _MOST_TAG and text.isprintable() else None

    def _keep_tag(self, answer: httpx.Response) -> None:
        if self.pinned:
            return
        place = tag_of(self.part)
        with naming(place):
            place.write_text(_state_of(answer), "ascii", "replace")


def tag_of(part: Path) -> Path:
    """Where the server's name for the state of a file is kept, beside its bytes."""
    stem = part.name.removesuffix(TEMPORARY_SUFFIX)
    return part.with_name(f"{stem}.tag{TEMPORARY_SUFFIX}")


def _state_of(answer: httpx.Response) -> str:
    """What the server calls this state; a weak ETag is none for us: bytes may differ."""
    tag: str = answer.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")
