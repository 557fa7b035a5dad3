"""The directory of a zip file, read strictly.

Other zip readers guess and repair; two readers that repair differently can be shown two different
files. Here the end record, the directory and the local headers must agree, entries must not overlap
and must lie inside the file; what does not is refused by name.

Source: PKWARE APPNOTE.TXT 6.3 (4.3.6-4.3.16 records, 4.5.3 the zip64 extra field).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace

from converters.bytesource import ByteSource
from converters.errors import CorruptFile, TruncatedFile, UnsupportedFile

MAX_ENTRIES = 200_000
MAX_DIRECTORY = 64 << 20

STORED, DEFLATED = 0, 8

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_LARGEST_END = _END.size + 0xFFFF
_ENCRYPTED, _SIZES_FOLLOW = 0x2041, 0x0008


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """One file in the archive, from its local header at `header` to at most `limit`."""

    name: str
    method: int
    flags: int
    crc: int
    packed: int
    size: int
    header: int
    limit: int = 0


@dataclass(frozen=True, slots=True)
class ZipDirectory:
    """All entries, in the order of the directory; `trailing` bytes follow the archive."""

    entries: tuple[ZipEntry, ...]
    trailing: int


def read_directory(source: ByteSource) -> ZipDirectory:
    """The directory of the zip file that `source` is.

    Raises TruncatedFile when the end record is missing, CorruptFile when records contradict each
    other, UnsupportedFile for archives in several parts.
    """
    end, trailing = _find_end(source)
    count, size, start, limit = _end_record(source, end)
    if count > MAX_ENTRIES or size > MAX_DIRECTORY:
        raise CorruptFile(
            f"its zip directory of {count} entries and {size} bytes is too large", path=source.name
        )
    if start + size != limit:
        raise CorruptFile("its zip directory is not where its end record says", path=source.name)
    entries = _entries(source, source.pread(start, size), count)
    return ZipDirectory(_apart(source, entries, start), trailing)


def data_offset(source: ByteSource, entry: ZipEntry) -> int:
    """Where the entry's bytes begin, from its local header, which must agree with the directory."""
    name = entry.name.encode("utf-8", "surrogateescape")
    raw = source.pread(entry.header, _LOCAL.size + len(name))
    signature, _, flags, method, _, _, _, packed, size, length, extra = _LOCAL.unpack_from(raw)
    sizes = {(packed, size), (entry.packed, entry.size)}
    deferred = flags & _SIZES_FOLLOW or 0xFFFFFFFF in (packed, size)
    begin: int = entry.header + _LOCAL.size + length + extra
    if (
        (signature, flags, method) != (b"PK\x03\x04", entry.flags, entry.method)
        or raw[_LOCAL.size :] != name
        or length != len(name)
        or (len(sizes) > 1 and not deferred)
        or begin + entry.packed > entry.limit
    ):
        raise CorruptFile(
            f"zip entry {entry.name!r} differs between directory and local header", path=source.name
        )
    return begin


def read_entry(source: ByteSource, entry: ZipEntry, limit: int) -> bytes:
    """The entry's bytes, unpacked. Raises CorruptFile, also when they are more than `limit`."""
    if entry.size > limit:
        raise CorruptFile(
            f"zip entry {entry.name!r} of {entry.size} bytes is more than {limit}", path=source.name
        )
    raw = source.pread(data_offset(source, entry), entry.packed)
    return raw if entry.method == STORED else _inflate(source.name, entry, raw)


def require_readable(source: ByteSource, entry: ZipEntry) -> None:
    """Raises UnsupportedFile for encryption and for packing other than deflate."""
    if entry.flags & _ENCRYPTED:
        raise UnsupportedFile(f"zip entry {entry.name!r} is encrypted", path=source.name)
    if entry.method not in {STORED, DEFLATED}:
        raise UnsupportedFile(
            f"zip entry {entry.name!r} is packed by method {entry.method}", path=source.name
        )


def _inflate(path: str, entry: ZipEntry, raw: bytes) -> bytes:
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = engine.decompress(raw, entry.size + 1)
    except zlib.error as error:
        raise CorruptFile(
            f"zip entry {entry.name!r} cannot be unpacked: {error}", path=path
        ) from None
    if len(data) != entry.size or zlib.crc32(data) != entry.crc:
        raise CorruptFile(
            f"zip entry {entry.name!r} unpacks to other bytes than announced", path=path
        )
    return data


def _find_end(source: ByteSource) -> tuple[int, int]:
    """(offset of the end record, number of bytes after the archive)."""
    length = min(source.size, _LARGEST_END)
    tail = source.pread(source.size - length, length)
    position = tail.rfind(b"PK\x05\x06", 0, max(len(tail) - _END.size + 4, 0))
    if position < 0:
        raise TruncatedFile(
            f"ends at byte {source.size} without the directory that ends a zip file",
            path=source.name,
            hint="the download or copy is incomplete: fetch the file again",
        )
    comment = int.from_bytes(tail[position + 20 : position + 22], "little")
    trailing = len(tail) - position - _END.size - comment
    if trailing < 0:
        raise CorruptFile("its zip comment reaches beyond the end", path=source.name)
    return source.size - length + position, trailing + comment


def _end_record(source: ByteSource, end: int) -> tuple[int, int, int, int]:
    """(entries, directory size, directory offset, where the directory must end)."""
    _, disk, directory_disk, here, count, size, start, _ = _END.unpack(source.pread(end, _END.size))
    if disk not in {0, 0xFFFF} or directory_disk not in {0, 0xFFFF}:
        raise UnsupportedFile("is one part of a zip archive in several parts", path=source.name)
    large = _end_record_64(source, end)
    if large is None:
        if here != count:
            raise CorruptFile("its zip end record contradicts itself", path=source.name)
        return count, size, start, end
    for short, full, ceiling in zip(
        (count, size, start), large, (0xFFFF, *[0xFFFFFFFF] * 2), strict=False
    ):
        if short not in {full, ceiling}:
            raise CorruptFile("its two zip end records contradict each other", path=source.name)
    return large


def _end_record_64(source: ByteSource, end: int) -> tuple[int, int, int, int] | None:
    at = end - _LOCATOR64.size
    if at < 0:
        return None
    signature, _, offset, _ = _LOCATOR64.unpack(source.pread(at, _LOCATOR64.size))
    if signature != b"PK\x06\x07":
        return None
    if offset + _END64.size > at:
        raise CorruptFile("its zip64 end record lies beyond its locator", path=source.name)
    record = _END64.unpack(source.pread(offset, _END64.size))
    if record[0] != b"PK\x06\x06" or offset + 12 + record[1] != at:
        raise CorruptFile("its zip64 end record is not where its locator says", path=source.name)
    return record[7], record[8], record[9], offset


def _entries(source: ByteSource, raw: bytes, count: int) -> tuple[ZipEntry, ...]:
    entries: list[ZipEntry] = []
    names: set[str] = set()
    position = 0
    for _ in range(count):
        try:
            entry, position = _entry(raw, position)
        except (struct.error, ValueError):
            raise CorruptFile("its zip directory is broken", path=source.name) from None
        if entry.name in names:
            raise CorruptFile(f"zip entry {entry.name!r} is there twice", path=source.name)
        names.add(entry.name)
        entries.append(entry)
    if position != len(raw):
        raise CorruptFile("its zip directory holds more than its entries", path=source.name)
    return tuple(entries)


def _entry(raw: bytes, position: int) -> tuple[ZipEntry, int]:
    fields = _CENTRAL.unpack_from(raw, position)
    signature, _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = fields[:12]
    comment_length, header = fields[12], fields[16]
    name_at = position + _CENTRAL.size
    extra_at = name_at + name_length
    after = extra_at + extra_length + comment_length
    if signature != b"PK\x01\x02" or after > len(raw):
        raise ValueError
    size, packed, header = _wide(raw[extra_at : extra_at + extra_length], (size, packed, header))
    entry = ZipEntry(_text(raw[name_at:extra_at]), method, flags, crc, packed, size, header)
    if method == STORED and packed != size and not flags & _ENCRYPTED:
        raise ValueError
    return entry, after


def _wide(extra: bytes, numbers: tuple[int, int, int]) -> tuple[int, int, int]:
    """(size, packed, header) with those that are all ones taken from the zip64 field."""
    if 0xFFFFFFFF not in numbers:
        return numbers
    field = _field(extra, 0x0001)
    wide: list[int] = []
    for number in numbers:
        if number != 0xFFFFFFFF:
            wide.append(number)
            continue
        if len(field) < 8:
            raise ValueError
        wide.append(int.from_bytes(field[:8], "little"))
        field = field[8:]
    return wide[0], wide[1], wide[2]


def _field(extra: bytes, wanted: int) -> bytes:
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if kind == wanted:
            return extra[position + 4 : position + 4 + length]
        position += 4 + length
    return b""


def _apart(source: ByteSource, entries: tuple[ZipEntry, ...], end: int) -> tuple[ZipEntry, ...]:
    """The entries with their limits; none may overlap the next one or the directory."""
    bounded: dict[str, ZipEntry] = {}
    limit = end
    for entry in sorted(entries, key=lambda entry: entry.header, reverse=True):
        if entry.header + _LOCAL.size + len(entry.name) + entry.packed > limit:
            raise CorruptFile(
                f"zip entry {entry.name!r} reaches into what follows it", path=source.name
            )
        bounded[entry.name] = replace(entry, limit=limit)
        limit = entry.header
    return tuple(bounded[entry.name] for entry in entries)


def _text(name: bytes) -> str:
    """Names are compared, never used as paths; undecodable bytes are kept."""
    return str(name, "utf-8", "surrogateescape")
