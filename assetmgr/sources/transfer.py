"""A file on its way from a server to the disk: resumed where it broke off, hashed as it comes.

Range, If-Range and Content-Range: RFC 9110. What the server calls this state of the file (ETag, or
Last-Modified) is kept beside the bytes, so that bytes of two states are never put together.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Self

from assetmgr.sources.web import BrokenOff, Web
from converters.errors import AssetmgrError, NotAvailable
from converters.hashing import FileHashes, StreamHasher
from converters.lanes import BLOCK_BYTES
from converters.progress import Progress
from converters.writers.atomic import TEMPORARY_SUFFIX, naming, refuse_full

if TYPE_CHECKING:
    import httpx

TRIES = 5
"""So often in a row a connection may break off without `ENOUGH_BYTES` having come."""
ENOUGH_BYTES = 1 << 20

SIZE_TOLERANCE = 1024
"""Bytes; announced sizes are in kilobytes, which someone may have rounded."""

_PLACE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")
_PAGE = re.compile(rb"\s*<(?:!doctype|html|head|body)\b", re.IGNORECASE)
_OBJECT = re.compile(rb'\s*\{\s*"')
_LONGEST_HEADER = 100_000_000
_MOST_TAG = 1000

Refusal = Callable[[Web, int, bytes, str], AssetmgrError]
"""The error of an answer that is no success: of its status, its body, and the subject."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """The hashes of the whole file; `header_bytes` is where a safetensors file's data begins."""

    hashes: FileHashes
    header_bytes: int | None


@dataclass(frozen=True, slots=True)
class Transfer:
    """The file at a path of a service; `size` is what was announced, in bytes."""

    web: Web
    path: str
    name: str
    part: Path
    size: int | None
    refusal: Refusal

    def run(self, progress: Progress) -> Arrived:
        """Fetch what is missing in `part`.

        Raises NotAvailable, what `refusal` gives, DiskFull, WriteFailed, Cancelled. Whatever has
        come before stays in `part`.
        """
        with naming(self.part):
            self.part.parent.mkdir(parents=True, exist_ok=True)
            stream = self.part.open("a+b", buffering=0)
        with stream, _Sink(self.part, stream) as sink:
            self._begin(sink, progress)
            self._patiently(sink, progress)
            return sink.finish()

    def _begin(self, sink: _Sink, progress: Progress) -> None:
        """Take up what an earlier call left, if the server can be asked to go on behind it."""
        progress.stage(f"downloading {self.name}", self.size)
        if self._tag() is None:
            sink.restart()
        else:
            progress.advance(sink.take_up())

    def _patiently(self, sink: _Sink, progress: Progress) -> None:
        failures, since = 0, sink.have
        while True:
            try:
                if self._once(sink, progress):
                    return
            except BrokenOff:
                failures = 0 if sink.have - since >= ENOUGH_BYTES else failures + 1
                since = sink.have
                if failures == TRIES:
                    raise
                progress.message(f"{self.name}: the connection broke off, going on")
                self.web.pause(failures and 0.5 * 2 ** (failures - 1), progress)

    def _once(self, sink: _Sink, progress: Progress) -> bool:
        """Ask for what is missing; False when it has to be asked for anew."""
        tag = self._tag() if sink.have else None
        headers = {"Accept-Encoding": "identity"}
        if tag is not None:
            headers |= {"Range": f"bytes={sink.have}-", "If-Range": tag}
        with self.web.open(self.path, self.name, headers=headers, progress=progress) as answer:
            if answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return self._is_whole(answer, sink)
            total = self._expected(answer, sink, progress)
            self._keep_tag(answer)
            for piece in answer.iter_raw():
                if not sink.have:
                    self._refuse_beginning(piece)
                sink.write(piece)
                progress.advance(len(piece))
        if total is not None and sink.have != total:
            raise BrokenOff("the connection broke off", path=self.name)
        return True

    def _is_whole(self, answer: httpx.Response, sink: _Sink) -> bool:
        """Nothing lies behind the bytes we have: they are all, or none of this file."""
        place = _PLACE.fullmatch(answer.headers.get("Content-Range", ""))
        if place is not None and int(place[3]) == sink.have:
            return True
        if not sink.have:
            raise NotAvailable("the server gives no bytes of the file", path=self.name)
        sink.restart()
        return False

    def _expected(self, answer: httpx.Response, sink: _Sink, progress: Progress) -> int | None:
        """How many bytes the whole file has; all that speaks against it is found before one comes.

        Raises what the answer means, or DiskFull.
        """
        if answer.status_code not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            body = self.web.read(answer, self.name)
            raise self.refusal(self.web, answer.status_code, body, self.name)
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

    def _total_of_part(self, answer: httpx.Response, sink: _Sink) -> int:
        place = _PLACE.fullmatch(answer.headers.get("Content-Range", ""))
        if place is None or place[1] is None or int(place[1]) != sink.have:
            raise NotAvailable("the server gave another part of the file", path=self.name)
        return int(place[3])

    def _length(self, answer: httpx.Response) -> int | None:
        length = answer.headers.get("Content-Length", "")
        return int(length) if length.isdigit() else None

    def _refuse_other_size(self, total: int) -> None:
        if self.size is not None and abs(total - self.size) > SIZE_TOLERANCE:
            cause = f"the server has {total:,} bytes, announced were {self.size:,}"
            raise NotAvailable(cause, path=self.name, hint="try again later")

    def _refuse_other_content(self, answer: httpx.Response) -> None:
        """Raises NotAvailable for a page or a message that comes in the place of a file."""
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise NotAvailable("the server gives the file in another form", path=self.name)
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind == "text/html":
            raise self._is_other("a web page")
        if kind == "application/json" and not self._may_be_json():
            body = self.web.read(answer, self.name)
            raise self.refusal(self.web, answer.status_code, body, self.name)

    def _refuse_beginning(self, piece: bytes) -> None:
        if _PAGE.match(piece):
            raise self._is_other("a web page")
        if _OBJECT.match(piece) and not self._may_be_json():
            raise self._is_other("a JSON text")

    def _may_be_json(self) -> bool:
        return PurePosixPath(self.name).suffix.lower() == ".json"

    def _is_other(self, what: str) -> AssetmgrError:
        hint = "the file may need a login" if self.web.token is None else "try again later"
        return NotAvailable(
            f"the server gives {what} instead of the file", path=self.name, hint=hint
        )

    @property
    def _tag_place(self) -> Path:
        stem = self.part.name.removesuffix(TEMPORARY_SUFFIX)
        return self.part.with_name(f"{stem}.tag{TEMPORARY_SUFFIX}")

    def _tag(self) -> str | None:
        """What the server called the state of the file that the bytes are of."""
        try:
            with self._tag_place.open("rb") as stream:
                text = stream.read(_MOST_TAG + 1).decode("ascii")
        except (OSError, UnicodeDecodeError):
            return None
        return text if 0 < len(text) <= _MOST_TAG and text.isprintable() else None

    def _keep_tag(self, answer: httpx.Response) -> None:
        """A weak ETag says that bytes may differ: it is none for us."""
        tag = answer.headers.get("ETag", "")
        if not tag or tag.startswith("W/"):
            tag = answer.headers.get("Last-Modified", "")
        with naming(self._tag_place):
            self._tag_place.write_text(tag, "ascii", "replace")


class _Sink:
    """The bytes on the disk, and the hashes of them; use as a context manager."""

    def __init__(self, part: Path, stream: io.FileIO) -> None:
        self.have = 0
        self._part, self._stream = part, stream
        self._head = b""
        self._hasher: StreamHasher | None = None
        self._header_bytes: int | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def restart(self) -> None:
        """Forget all bytes."""
        self._open.close()
        self._hasher, self._head, self.have = None, b"", 0
        with naming(self._part):
            self._stream.truncate(0)

    def take_up(self) -> int:
        """Hash the bytes that are there, and give their number."""
        with naming(self._part):
            self._stream.seek(0)
            while block := self._stream.read(BLOCK_BYTES):
                self._hash(block)
            self._stream.seek(0, io.SEEK_END)
        return self.have

    def write(self, data: bytes) -> None:
        """Append bytes."""
        with naming(self._part):
            left = memoryview(data)
            while left:
                left = left[self._stream.write(left) :]
        self._hash(data)

    def finish(self) -> Arrived:
        """Let the bytes reach the disk; gives their hashes."""
        with naming(self._part):
            os.fsync(self._stream.fileno())
        hasher = self._hasher or self._started()
        return Arrived(hasher.finish(), self._header_bytes)

    def _hash(self, data: bytes) -> None:
        self.have += len(data)
        if self._hasher is not None:
            self._hasher.update(data)
            return
        self._head += data
        if len(self._head) > 8:
            self._started()

    def _started(self) -> StreamHasher:
        """What is hashed depends on whether the file begins as a safetensors file does."""
        self._header_bytes = _header_bytes(self._head)
        self._hasher = self._open.enter_context(StreamHasher(self._header_bytes))
        self._hasher.update(self._head)
        return self._hasher


def _header_bytes(head: bytes) -> int | None:
    """8 and the length that the first 8 bytes tell, where a JSON object follows."""
    length = int.from_bytes(head[:8], "little")
    return 8 + length if head[8:9] == b"{" and length <= _LONGEST_HEADER else None
