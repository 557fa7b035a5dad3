"""The plain files in a tar archive, read strictly: no links, no extensions that change a name.

Source: POSIX.1-2001 `pax`, "ustar Interchange Format" and "pax Header Block"; GNU tar's numbers in
base 256.
"""

from __future__ import annotations

import re

from converters.bytesource import ByteSource
from converters.errors import CorruptFile, TruncatedFile, UnsupportedFile
from converters.statedict import Extent

BLOCK = 512
MAX_MEMBERS = 64
MAX_EXTENSION = 1 << 16
"""Bytes of one extension header."""

_PLAIN, _FOLDER, _EXTENSIONS = b"0\0", b"5", b"xg"
_RENAMES = re.compile(rb"\d+ (path|size|linkpath|GNU\.sparse[^=]*)=")


def read_members(source: ByteSource) -> dict[str, Extent]:
    """Where the plain files of the archive lie, by name.

    Raises TruncatedFile when one reaches beyond the end, CorruptFile for broken headers and names
    given twice, UnsupportedFile for links, unusual extensions and more than MAX_MEMBERS members.
    """
    members: dict[str, Extent] = {}
    position = 0
    for _ in range(MAX_MEMBERS):
        if position + BLOCK > source.size:
            return members
        header = source.pread(position, BLOCK)
        if not any(header):
            return members
        name, kind, extent = _member(source, header, position + BLOCK)
        if kind in _EXTENSIONS:
            _require_quiet(source, extent)
        elif kind in _PLAIN:
            if name in members:
                raise CorruptFile(f"tar member {name!r} is there twice", path=source.name)
            members[name] = extent
        elif kind not in _FOLDER:
            raise UnsupportedFile(
                f"is a tar archive whose member {name!r} is not a plain file", path=source.name
            )
        position = extent.offset + -(-extent.nbytes // BLOCK) * BLOCK
    raise UnsupportedFile(
        f"is a tar archive of more than {MAX_MEMBERS} members, not a model", path=source.name
    )


def _member(source: ByteSource, header: bytes, begin: int) -> tuple[str, bytes, Extent]:
    """(name, type, where its bytes are) from a header block that ends at `begin`."""
    if header[257:262] != b"ustar" or _octal(header[148:156]) != _checksum(header):
        raise CorruptFile(f"its tar header at byte {begin - BLOCK} is broken", path=source.name)
    size = _size(header[124:136])
    if size is None:
        raise CorruptFile(f"its tar header at byte {begin - BLOCK} has no size", path=source.name)
    name = str(_text(header[345:500]) + b"/" + _text(header[:100]), "utf-8", "backslashreplace")
    if begin + size > source.size:
        raise TruncatedFile(
            f"ends at byte {source.size}, tar member {name.lstrip('/')!r} needs {begin + size}",
            path=source.name,
        )
    return name.lstrip("/"), header[156:157], Extent(source, begin, size)


def _require_quiet(source: ByteSource, extent: Extent) -> None:
    """An extension may add times and comments, but not another name or size."""
    if extent.nbytes > MAX_EXTENSION or _RENAMES.search(extent.read()):
        raise UnsupportedFile(
            "is a tar archive with extensions that change names or sizes", path=source.name
        )


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _octal(field: bytes) -> int | None:
    digits = field.strip(b" \0")
    return int(digits, 8) if re.fullmatch(rb"[0-7]+", digits) else None


def _size(field: bytes) -> int | None:
    return int.from_bytes(field[1:], "big") if field[0] == 0x80 else _octal(field)


def _checksum(header: bytes) -> int:
    """The sum of all bytes, those of the checksum itself counted as blanks."""
    return sum(header) - sum(header[148:156]) + 8 * ord(" ")
