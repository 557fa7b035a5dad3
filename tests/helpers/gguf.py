"""Builders of GGUF files: true ones, and ones that lie.

Source: ggml-org/ggml `docs/gguf.md`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from converters.containers.gguf_blocks import TYPES

NUMBER = {kind.name: number for number, kind in TYPES.items()}


U8, I32, U32, F32, BOOL, STRING, ARRAY = 0, 5, 4, 6, 7, 8, 9


Entry = tuple[int, bytes]


Stored = tuple[tuple[int, ...], str, bytes]
"""Dimensions with the fastest first, type, bytes."""


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def entry(kind: int, form: str, value: object) -> Entry:
    return kind, struct.pack(form, value)


def array(kind: int, values: list[bytes], count: int | None = None) -> Entry:
    return ARRAY, struct.pack("<IQ", kind, len(values) if count is None else count) + b"".join(
        values
    )


def gguf(
    tensors: Mapping[str, Stored],
    values: Mapping[str, Entry] | None = None,
    *,
    version: int = 3,
    alignment: int = 32,
    shift: int = 0,
) -> bytes:
    """A file; `shift` moves every tensor but the first, to make overlaps and holes."""
    entries = dict(values or {})
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(entries))
    for key, (kind, raw) in entries.items():
        head += text(key) + struct.pack("<I", kind) + raw
    data = b""
    for index, (name, (dimensions, kind_name, raw)) in enumerate(tensors.items()):
        head += text(name) + struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
        head += struct.pack("<IQ", NUMBER.get(kind_name, 77), len(data) + shift * bool(index))
        data += raw + bytes(-len(raw) % alignment)
    return head + bytes(-len(head) % alignment) + data
