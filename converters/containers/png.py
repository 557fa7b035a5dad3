"""The parts of a PNG file that can carry an embedding: its texts and its pixels, both bounded.

Source: W3C "Portable Network Graphics (PNG) Specification (Third Edition)", 5.3 (chunks), 11.2.1
(IHDR), 11.3.3 (texts).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.bytesource import ByteSource
from converters.errors import CorruptFile, TruncatedFile

if TYPE_CHECKING:
    from PIL.Image import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_PIXELS = 8 << 20
MAX_TEXT = 16 << 20
"""Bytes of a text, unpacked."""
MAX_CHUNKS = 100_000

_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PICTURE = (b"IHDR", b"PLTE", b"IDAT", b"IEND")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk whose data are `nbytes` bytes at `offset`."""

    kind: bytes
    offset: int
    nbytes: int


def chunks(source: ByteSource) -> Iterator[Chunk]:
    """All chunks up to IEND. Raises TruncatedFile or CorruptFile."""
    position = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if position + 12 > source.size:
            raise TruncatedFile(
                f"ends at byte {source.size} without the chunk that ends a PNG picture",
                path=source.name,
            )
        nbytes, kind = struct.unpack(">I4s", source.pread(position, 8))
        chunk = Chunk(kind, position + 8, nbytes)
        position += 12 + nbytes
        if position > source.size:
            raise TruncatedFile(
                f"ends at byte {source.size}, its chunk {_shown(kind)} needs {position}",
                path=source.name,
            )
        yield chunk
        if kind == b"IEND":
            return
    raise CorruptFile(f"has more than {MAX_CHUNKS} chunks", path=source.name)


def text(source: ByteSource, found: list[Chunk], keyword: bytes) -> bytes | None:
    """The first text with this keyword, unpacked; None when there is none. Raises CorruptFile."""
    for chunk in found:
        if chunk.kind not in _TEXTS or chunk.nbytes <= len(keyword):
            continue
        if source.pread(chunk.offset, len(keyword) + 1) == keyword + b"\0":
            return _unpacked(source, chunk, len(keyword) + 1)
    return None


def picture(source: ByteSource, found: list[Chunk]) -> Image:
    """The pixels as RGB. Raises CorruptFile, also for pictures of more than MAX_PIXELS."""
    _require_size(source, found)
    # Only what makes the picture is decoded: profiles, previews and animations are left out.
    parts = [_checked(source, chunk) for chunk in found if chunk.kind in _PICTURE]
    decoded = _decoded(SIGNATURE + b"".join(parts))
    if decoded is None:
        raise CorruptFile("is a PNG picture that cannot be decoded", path=source.name)
    return decoded


def _decoded(data: bytes) -> Image | None:
    import io

    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as opened:
            return opened.convert("RGB")
    # What Pillow raises for broken pictures: UnidentifiedImageError and many kinds of OSError,
    # SyntaxError for broken chunks, and what its parsers let through.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error):
        return None


def _require_size(source: ByteSource, found: list[Chunk]) -> None:
    if not found or found[0].kind != b"IHDR" or found[0].nbytes != 13:
        raise CorruptFile("is a PNG picture without a header", path=source.name)
    width, height = struct.unpack(">II", source.pread(found[0].offset, 8))
    if not 0 < width * height <= MAX_PIXELS:
        raise CorruptFile(
            f"is a PNG picture of {width}x{height} pixels, more than {MAX_PIXELS}",
            path=source.name,
        )


def _checked(source: ByteSource, chunk: Chunk) -> bytes:
    """The whole chunk. Raises CorruptFile when its CRC is wrong."""
    raw = source.pread(chunk.offset - 8, chunk.nbytes + 12)
    if zlib.crc32(raw[4:-4]) != int.from_bytes(raw[-4:], "big"):
        raise CorruptFile(
            f"its chunk {_shown(chunk.kind)} at byte {chunk.offset - 8} has a wrong CRC",
            path=source.name,
        )
    return raw


def _unpacked(source: ByteSource, chunk: Chunk, begin: int) -> bytes:
    """The text after the keyword of a text chunk."""
    if chunk.nbytes > MAX_TEXT:
        raise CorruptFile(f"has a text of more than {MAX_TEXT >> 20} MB", path=source.name)
    data = _checked(source, chunk)[8 + begin : -4]
    if chunk.kind == b"tEXt":
        return data
    packed, data = (True, data[1:]) if chunk.kind == b"zTXt" else _international(data)
    return _inflated(source, data) if packed else data


def _international(data: bytes) -> tuple[bool, bytes]:
    """Whether the text is packed, and the text, which follows two flags and two short texts."""
    return data[:1] == b"\1", data[2:].split(b"\0", 2)[-1]


def _inflated(source: ByteSource, data: bytes) -> bytes:
    try:
        engine = zlib.decompressobj()
        found = engine.decompress(data, MAX_TEXT)
    except zlib.error as error:
        raise CorruptFile(
            f"has a text that cannot be unpacked: {error}", path=source.name
        ) from None
    if not engine.eof:
        raise CorruptFile("has a packed text that is cut or too long", path=source.name)
    return found


def _shown(kind: bytes) -> str:
    return str(kind, "ascii", "backslashreplace")
