"""torch.save before version 1.6: five pickles one after another, then the raw storages.

Magic number, protocol 1001, a dict about the writing machine, the object, the keys of its storages
in the order of what follows: per storage the number of its elements (8 bytes) and the elements.

Sources: pytorch/pytorch `torch/serialization.py` (`_legacy_save`, `_legacy_load`: order, persistent
ids, views) and `torch/csrc/serialization.cpp` (`THPStorage_writeFileRaw`: numbers are written
little endian on every machine, so the dict's `little_endian` does not matter).
"""

from __future__ import annotations

from collections.abc import Iterator

from converters.bytesource import ByteSource
from converters.containers.model import Container, Model, inspected
from converters.containers.pickle_streams import stream_at
from converters.containers.torch_model import broken_pickle, torch_model
from converters.containers.torch_tensors import Stored, persistent_object, storage_nbytes
from converters.errors import CorruptFile, FileProblem, TruncatedFile
from converters.pickles.safety import after_stop, judge
from converters.pickles.unpickling import Unpickled
from converters.pickles.values import BadPickle, StorageRef
from converters.pickles.verdict import Finding, Verdict
from converters.statedict import Extent

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MAX_REST = 1 << 20
"""Bytes after the last storage that are looked into."""

_STREAMS = ("magic number", "protocol", "system description", "object", "list of storages")
_COUNT_BYTES = 8


def read_torch_legacy(source: ByteSource) -> Model:
    """Open a legacy torch file from its pickles and the lengths of its storages.

    Raises CorruptFile or TruncatedFile, with the safety of all five pickles.
    """
    storages: dict[str, StorageRef] = {}
    streams, position = _streams(source, storages)
    safety = judge(streams)
    try:
        _require_all(streams)
        keys = _keys(streams)
        stored, end = _stored(source, keys, storages, position)
    except BadPickle as error:
        raise broken_pickle(source, safety, error) from None
    except FileProblem as error:
        raise inspected(error, safety) from None
    rest = list(_rest(source, end))

    def find(key: str) -> Stored:
        if key not in stored:
            raise BadPickle(f"a tensor over storage {key[:40]}, which the file does not hold")
        return stored[key]

    return torch_model(
        source,
        Container.TORCH_LEGACY,
        streams[3].value,
        find,
        safety=judge(streams, rest),
        problems=[reason for _, reason in rest[:1]],
    )


def _streams(source: ByteSource, storages: dict[str, StorageRef]) -> tuple[list[Unpickled], int]:
    """Up to five pickles and the offset after the last; notes the storages they mention."""

    def persistent(identity: object) -> object:
        found = persistent_object(identity)
        if isinstance(found, StorageRef):
            storages.setdefault(found.key, found)
        return found

    streams: list[Unpickled] = []
    position = 0
    for _ in _STREAMS:
        stream, position = stream_at(source, position, source.size, persistent)
        streams.append(stream)
        if stream.stopped is not None:
            break
    return streams, position


def _require_all(streams: list[Unpickled]) -> None:
    name, stopped = _STREAMS[len(streams) - 1], streams[-1].stopped
    if stopped is not None:
        raise BadPickle(f"{name}: {stopped.reason}", truncated=stopped.truncated)
    if (streams[0].value, streams[1].value) != (MAGIC, PROTOCOL):
        raise BadPickle(f"it does not begin with torch's magic number and protocol {PROTOCOL}")


def _keys(streams: list[Unpickled]) -> list[str]:
    value = streams[4].value
    if not isinstance(value, list):
        raise BadPickle("its list of storages is not a list")
    keys = [key for key in value if isinstance(key, str)]
    if len(keys) != len(value) or len(set(keys)) != len(keys):
        raise BadPickle("its list of storages is not one of different texts")
    return keys


def _stored(
    source: ByteSource, keys: list[str], storages: dict[str, StorageRef], begin: int
) -> tuple[dict[str, Stored], int]:
    """Where the storages lie, and the offset after the last one."""
    found: dict[str, Stored] = {}
    position = begin
    for key in keys:
        if key not in storages:
            raise BadPickle(f"it lists storage {key[:40]}, which no tensor uses")
        extent = _extent(source, storages[key], position)
        found[key] = Stored.at(extent)
        position = extent.offset + extent.nbytes
    return found, position


def _extent(source: ByteSource, storage: StorageRef, position: int) -> Extent:
    nbytes = storage_nbytes(storage)
    end = position + _COUNT_BYTES + nbytes
    if end > source.size:
        raise TruncatedFile(
            f"ends at byte {source.size}, storage {storage.key[:40]} needs {end}",
            path=source.name,
            hint="the download or copy is incomplete: fetch the file again",
        )
    numel = int.from_bytes(source.pread(position, _COUNT_BYTES), "little", signed=True)
    if numel != storage.numel:
        raise CorruptFile(
            f"storage {storage.key[:40]} at byte {position} has {numel} elements, "
            f"its pickle says {storage.numel}",
            path=source.name,
        )
    return Extent(source, position + _COUNT_BYTES, nbytes)


def _rest(source: ByteSource, end: int) -> Iterator[Finding]:
    """What follows the last storage: torch would read another object there."""
    if end == source.size:
        return
    yield Verdict.SUSPICIOUS, f"{source.size - end} bytes follow the last storage"
    yield from after_stop(source.pread(end, min(MAX_REST, source.size - end)), 0)[1:]
