"""One pickle somewhere in a file, followed without reading more of the file than it needs."""

from __future__ import annotations

from dataclasses import replace

from converters.bytesource import ByteSource
from converters.pickles.machine import Persistent
from converters.pickles.unpickling import Unpickled, no_persistent_ids, unpickle
from converters.pickles.values import BadPickle

LOOKS = (1 << 12, 1 << 16, 1 << 20, 1 << 25)
"""Bytes read at a time until the stream ends; what is longer than the last is not a model's."""


def stream_at(
    source: ByteSource, begin: int, end: int, persistent: Persistent = no_persistent_ids
) -> tuple[Unpickled, int]:
    """The pickle between the offsets `begin` and `end`, and the offset after its last opcode.

    `persistent` is asked again for the same objects when more has to be read. Never raises for
    what is in the stream: problems are in its `stopped`.
    """
    for look in LOOKS:
        count = min(look, end - begin)
        stream = unpickle(source.pread(begin, count), persistent=persistent)
        if begin + count == end or not _is_cut(stream):
            break
    else:
        too_long = BadPickle(f"it is longer than {LOOKS[-1] >> 20} MB")
        stream = replace(stream, stopped=too_long)
    return stream, begin + stream.end


def _is_cut(stream: Unpickled) -> bool:
    return stream.stopped is not None and stream.stopped.truncated
