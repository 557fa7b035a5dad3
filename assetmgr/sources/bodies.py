"""Bodies of answers that are no files: within bounds of bytes and time, whatever the server sends.

The decoders of HTTP clients unpack each piece as a whole, and 64 KB of zeros that were packed well
are gigabytes. Encodings: RFC 9110, section 8.4; those asked for are the ones that zlib can stop at.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Protocol

from assetmgr.sources.transfers.trickle import Deadline

MOST_ANSWER_BYTES = 32 << 20
"""More than any answer that is no file."""
LONGEST_SECONDS = 300.0
"""For one of them; it may be large, and the line slow."""
ACCEPTED = "gzip, deflate"
"""The value of Accept-Encoding that goes with `body_within`."""

_EITHER_HEADER = zlib.MAX_WBITS | 32


class Answer(Protocol):
    """The answer of an HTTP client: httpx's, or that of huggingface_hub's own."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Whatever their case."""

    def iter_raw(self) -> Iterator[bytes]:
        """The body as it comes, packed as it is."""


class OtherEncoding(ValueError):
    """The body is packed in a way that was not asked for, or not as it is said to be."""


class TooSlow(Exception):
    """The body does not come to its end, although something comes now and then."""


def body_within(answer: Answer, most: int) -> bytes:
    """The unpacked body, cut at `most` bytes.

    Raises OtherEncoding, TooSlow, and what the client raises.
    """
    encoding = answer.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in {"", "identity", "gzip", "x-gzip", "deflate"}:
        raise OtherEncoding(encoding)
    packed = None if encoding in {"", "identity"} else zlib.decompressobj(_EITHER_HEADER)
    body, deadline = bytearray(), Deadline(LONGEST_SECONDS)
    for piece in answer.iter_raw():
        if deadline.is_missed(len(piece)):
            raise TooSlow
        body += piece if packed is None else _unpacked(packed, piece, most - len(body))
        if len(body) >= most:
            break
    return bytes(body[:most])


def _unpacked(packed: zlib._Decompress, piece: bytes, room: int) -> bytes:
    try:
        return packed.decompress(piece, room)
    except zlib.error as error:
        raise OtherEncoding(str(error)) from None
