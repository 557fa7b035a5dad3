"""The zip container of torch.save (torch 1.6 and later).

`X/data.pkl` describes the objects, `X/data/<key>` hold the storages. Only the zip directory, the
local headers of storages in use and `data.pkl` are read; the inert machine follows the pickle.

Source: pytorch/pytorch `torch/serialization.py` (`_save`, `_load`), `torch/storage.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from converters.bytesource import ByteSource
from converters.containers.model import (
    Container,
    InspectedCorrupt,
    InspectedUnsupported,
    Model,
    inspected,
)
from converters.containers.torch_tensors import (
    Stored,
    Unread,
    array_tensor,
    lazy_tensor,
    persistent_object,
    storage_nbytes,
)
from converters.containers.unwrapping import Tensor, Unwrapped, unwrap
from converters.containers.zip_directory import (
    STORED,
    ZipEntry,
    data_offset,
    read_directory,
    read_entry,
    require_readable,
)
from converters.errors import CorruptFile, FileProblem, TruncatedFile
from converters.pickles.machine import Unpickled, unpickle
from converters.pickles.safety import Finding, SafetyReport, Verdict, after_stop, judge
from converters.pickles.values import (
    Array,
    BadPickle,
    TensorRef,
    UnreadTensor,
)
from converters.statedict import Extent, LazyTensor, StateDict

MAX_PICKLE = 32 << 20
"""Bytes of one pickle; that of a checkpoint with 10,000 tensors has about 1 MB."""


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
    stream = streams[f"{root}/data.pkl"]
    if stream.stopped is not None:
        raise _broken(source, safety, stream.stopped)
    try:
        found = unwrap(stream.value)
        tensors, problems = _Tensors(archive, root).all(found)
    except BadPickle as error:
        raise _broken(source, safety, error) from None
    return Model(
        path=source.name,
        nbytes=source.size,
        container=Container.TORCH_ZIP,
        state_dict=StateDict(tensors, {}, found.extras),
        safety=safety,
        problems=(*archive.problems, *problems),
        ignored=tuple(found.ignored),
    )


def _archive(source: ByteSource) -> _Archive:
    directory = read_directory(source)
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


def _broken(source: ByteSource, safety: SafetyReport, error: BadPickle) -> FileProblem:
    kind = TruncatedFile if error.truncated else CorruptFile
    return inspected(kind(f"its pickle cannot be read: {error.reason}", path=source.name), safety)


@dataclass(slots=True)
class _Tensors:
    """Makes lazy tensors; remembers storages, of which several tensors may be views."""

    archive: _Archive
    root: str
    stored: dict[str, Stored] = field(default_factory=dict)

    def all(self, found: Unwrapped) -> tuple[dict[str, LazyTensor], list[str]]:
        tensors: dict[str, LazyTensor] = {}
        problems: list[str] = []
        prefix = f"{self.archive.source.name}: "
        for name, recipe in found.tensors.items():
            try:
                tensors[name] = self._one(recipe, prefix + name)
            except Unread as reason:
                problems.append(f"{name} is {reason} and was left out")
            except BadPickle as error:
                raise BadPickle(f"{name} is {error.reason}") from None
        return tensors, problems

    def _one(self, recipe: Tensor, origin: str) -> LazyTensor:
        if isinstance(recipe, UnreadTensor):
            raise Unread(recipe.what)
        if isinstance(recipe, Array):
            return array_tensor(recipe, origin)
        return lazy_tensor(recipe, self._stored(recipe), origin)

    def _stored(self, recipe: TensorRef) -> Stored:
        stored = self.stored.get(recipe.storage.key)
        if stored is None:
            stored = self.stored[recipe.storage.key] = self._find(recipe.storage.key)
        if storage_nbytes(recipe.storage) > stored.nbytes:
            raise BadPickle(
                f"a tensor over a storage of {storage_nbytes(recipe.storage)} bytes, "
                f"of which the file holds {stored.nbytes}"
            )
        return stored

    def _find(self, key: str) -> Stored:
        archive = self.archive
        entry = archive.entries.get(f"{self.root}/data/{key}")
        if entry is None:
            raise BadPickle(f"a tensor over storage {key[:40]}, which the file does not hold")
        require_readable(archive.source, entry)
        offset = data_offset(archive.source, entry)
        if entry.method == STORED:
            extent = Extent(archive.source, offset, entry.size)
            return Stored(entry.size, extent, extent.read)
        return Stored(entry.size, None, _unpacked(archive.source, entry))


def _unpacked(source: ByteSource, entry: ZipEntry) -> Callable[[], bytes]:
    return lambda: read_entry(source, entry, entry.size)
