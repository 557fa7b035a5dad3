"""The zip container of torch.save (torch 1.6 and later).

`X/data.pkl` describes the objects, `X/data/<key>` hold the storages. Only the zip directory, the
local headers of storages in use (of a distant file not even those) and `data.pkl` are read; the
inert machine follows the pickle.

Source: pytorch/pytorch `torch/serialization.py` (`_save`, `_load`), `torch/storage.py`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

from converters.bytesource import ByteSource
from converters.containers.model import (
    Container,
    InspectedCorrupt,
    InspectedUnsupported,
    Model,
    inspected,
)
from converters.containers.torch_model import broken_pickle, torch_model
from converters.containers.torch_tensors import Stored, persistent_object
from converters.containers.zip_directory import (
    STORED,
    ZipEntry,
    data_offset,
    read_directory,
    read_entry,
    require_readable,
)
from converters.errors import CorruptFile, FileProblem
from converters.pickles.safety import after_stop, judge
from converters.pickles.unpickling import Unpickled, unpickle
from converters.pickles.values import BadPickle
from converters.pickles.verdict import Finding, SafetyReport, Verdict
from converters.statedict import Extent

MAX_PICKLE = 32 << 20
"""Bytes of one pickle; that of a checkpoint with 10,000 tensors has about 1 MB."""
MAX_RATIO = 100
"""By how much an archive may shrink as a whole; tensors of zeros alone shrink a thousandfold."""


@dataclass(frozen=True, slots=True)
class _Archive:
    source: ByteSource
    entries: dict[str, ZipEntry]
    pickles: tuple[str, ...]
    findings: tuple[Finding, ...]
    problems: tuple[str, ...]

    def read(self, name: str, limit: int) -> bytes:
        entry = self.entries[name]
        require_readable(self.source, entry)
        return read_entry(self.source, entry, limit)


def read_torch_zip(source: ByteSource) -> Model:
    """Open a torch zip file from its directory and pickle alone.

    Raises UnsupportedFile for other zip files, TorchScript and big-endian data, CorruptFile or
    TruncatedFile for broken ones. Errors after the pickle was seen carry its `safety`.
    """
    archive = _archive(source)
    streams, findings = _streams(archive)
    safety = judge(streams.values(), findings)
    root = _root(archive, safety)
    _require_plausible(archive, safety)
    stream = streams[f"{root}/data.pkl"]
    if stream.stopped is not None:
        raise broken_pickle(source, safety, stream.stopped)
    return torch_model(
        source,
        Container.TORCH_ZIP,
        stream.value,
        lambda key: _stored(archive, root, key),
        safety=safety,
        problems=archive.problems,
    )


def _archive(source: ByteSource) -> _Archive:
    try:
        directory = read_directory(source)
    except CorruptFile as error:
        # Readers believe different parts of such a directory: what one finds, another may not run.
        safety = judge((), [(Verdict.SUSPICIOUS, error.cause)])
        raise inspected(error, safety) from None
    entries = {entry.name: entry for entry in directory.entries}
    problems = [f"zip entry {name!r} is a path outside" for name in entries if _is_outside(name)]
    if directory.trailing:
        problems.append(f"{directory.trailing} bytes follow the zip archive")
    pickles = tuple(name for name in entries if name.endswith((".pkl", ".pickle")))
    odd = tuple((Verdict.SUSPICIOUS, problem) for problem in problems)
    return _Archive(source, entries, pickles, odd, tuple(problems))


def _is_outside(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return ".." in parts or name.startswith("/") or "\0" in name or ":" in parts[0]


def _streams(archive: _Archive) -> tuple[dict[str, Unpickled], list[Finding]]:
    """All pickles of the archive followed; those beside data.pkl within one limit together."""
    streams: dict[str, Unpickled] = {}
    findings = list(archive.findings)
    room = MAX_PICKLE
    for name in archive.pickles:
        try:
            data = archive.read(name, MAX_PICKLE if _is_main(name) else room)
        except FileProblem as error:
            findings.append((Verdict.SUSPICIOUS, f"{name} was not inspected: {error.cause}"))
            if _is_main(name):
                raise inspected(error, judge(streams.values(), findings)) from None
            continue
        if zlib.crc32(data) != archive.entries[name].crc:
            findings.append((Verdict.SUSPICIOUS, f"{name} does not match its checksum"))
        room -= 0 if _is_main(name) else len(data)
        streams[name] = unpickle(data, persistent=persistent_object)
        if streams[name].stopped is None:
            findings.extend(after_stop(data, streams[name].end))
    return streams, findings


def _is_main(name: str) -> bool:
    return name.endswith("/data.pkl") and name.count("/") == 1


def _root(archive: _Archive, safety: SafetyReport) -> str:
    """The archive's top folder. Raises UnsupportedFile or CorruptFile with the safety report."""
    path, names = archive.source.name, archive.entries
    roots = [name.removesuffix("/data.pkl") for name in names if _is_main(name)]
    if not roots:
        raise InspectedUnsupported(
            "is a zip archive, but not one of torch (no data.pkl)", path=path, safety=safety
        )
    if len(roots) > 1:
        raise InspectedCorrupt("holds several data.pkl", path=path, safety=safety)
    root = roots[0]
    if f"{root}/constants.pkl" in names or any(name.startswith(f"{root}/code/") for name in names):
        raise InspectedUnsupported(
            "is a TorchScript program, not a model file", path=path, safety=safety
        )
    if f"{root}/byteorder" in names and archive.read(f"{root}/byteorder", 64) != b"little":
        raise InspectedUnsupported("holds big-endian data", path=path, safety=safety)
    return root


def _require_plausible(archive: _Archive, safety: SafetyReport) -> None:
    """Raises InspectedCorrupt for storages that would unpack to far more than the file."""
    size, pickles = archive.source.size, set(archive.pickles)
    unpacked = sum(entry.size for name, entry in archive.entries.items() if name not in pickles)
    if unpacked > MAX_RATIO * size + MAX_PICKLE:
        raise InspectedCorrupt(
            f"its {size} bytes claim to unpack to {unpacked}, as no model does",
            path=archive.source.name,
            safety=safety,
        )


def _stored(archive: _Archive, root: str, key: str) -> Stored:
    entry = archive.entries.get(f"{root}/data/{key}")
    if entry is None:
        raise BadPickle(f"a tensor over storage {key[:40]}, which the file does not hold")
    require_readable(archive.source, entry)
    if entry.method == STORED and not archive.source.is_distant:
        offset = data_offset(archive.source, entry)
        return Stored.at(Extent(archive.source, offset, entry.size))
    # The local header, which lies before the storage, is checked when the storage is read.
    return Stored(archive.source, entry.size, None, _unpacked(archive.source, entry))


def _unpacked(source: ByteSource, entry: ZipEntry) -> Callable[[], bytes]:
    return lambda: read_entry(source, entry, entry.size)
