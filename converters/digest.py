r"""The weights digest: the same for the same tensors, whatever file they are in.

A tensor's digest is BLAKE3 over `LABEL\n`, the shape as decimals joined by commas, `\n`, and the
bytes in C order, little endian. The digest of a model is BLAKE3 over its tensors sorted by name:
for each the length of the UTF-8 name as four bytes little endian, the name, and the 32 bytes of the
tensor's digest. Order in the file, container and metadata do not matter; another element type gives
another digest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from blake3 import blake3

from converters.bytesource import FileBytes
from converters.progress import SILENT, Progress
from converters.statedict import Extent, LazyTensor, StateDict


class _Blake3(Protocol):
    def update(self, data: bytes | bytearray | memoryview, /) -> object: ...
    def digest(self) -> bytes: ...


def tensor_digest(tensor: LazyTensor) -> bytes:
    """The 32 bytes that stand for type, shape and values of a tensor; reads it."""
    hasher = _begin(tensor)
    hasher.update(tensor.read())
    return hasher.digest()


def weights_digest(state: StateDict, progress: Progress = SILENT) -> str:
    """The digest of all tensors, 64 hex digits; reads them one at a time."""

    def digest(tensor: LazyTensor) -> bytes:
        found = tensor_digest(tensor)
        progress.advance(tensor.nbytes)
        return found

    return _combine((name, digest(tensor)) for name, tensor in state.items())


def _begin(tensor: LazyTensor) -> _Blake3:
    shape = ",".join(map(str, tensor.shape))
    hasher: _Blake3 = blake3(f"{tensor.dtype.label}\n{shape}\n".encode("ascii"))
    return hasher


def _combine(digests: Iterable[tuple[str, bytes]]) -> str:
    whole = blake3()
    for name, digest in sorted(digests):
        encoded = name.encode("utf-8", "surrogatepass")
        whole.update(len(encoded).to_bytes(4, "little") + encoded + digest)
    return whole.hexdigest()


@dataclass(frozen=True, slots=True)
class _Pending:
    start: int
    stop: int
    name: str
    hasher: _Blake3


class WeightsDigest:
    """Makes the digest of a file's tensors from the file's bytes as they stream by.

    Tensors that do not lie in one piece (transposed views) or share bytes with an earlier one are
    read by themselves at the end.
    """

    def __init__(self, state: StateDict, path: Path) -> None:
        self._state = state
        self._streamed = _in_one_piece(state, path)
        self._next = 0
        self._position = 0

    def feed(self, data: memoryview) -> None:
        """The next bytes of the file."""
        begin, end = self._position, self._position + len(data)
        index = self._next
        while index < len(self._streamed) and self._streamed[index].start < end:
            pending = self._streamed[index]
            pending.hasher.update(data[max(0, pending.start - begin) : pending.stop - begin])
            if pending.stop > end:
                break
            index += 1
        self._next, self._position = index, end

    def finish(self) -> str:
        """The digest, 64 hex digits. Raises FileProblem when a remaining tensor cannot be read."""
        done = {pending.name: pending.hasher.digest() for pending in self._streamed}
        rest = ((name, t) for name, t in self._state.items() if name not in done)
        return _combine([*done.items(), *((name, tensor_digest(t)) for name, t in rest)])


def _in_one_piece(state: StateDict, path: Path) -> list[_Pending]:
    """Non-overlapping tensors with one extent in the file at `path`, by offset."""
    found = []
    for name, tensor in state.items():
        extent = _only_extent(tensor)
        if extent is not None and _is_file(extent, path):
            found.append((extent.offset, extent.offset + extent.nbytes, name, tensor))
    pending: list[_Pending] = []
    for start, stop, name, tensor in sorted(found, key=lambda item: item[:3]):
        if not pending or start >= pending[-1].stop:
            pending.append(_Pending(start, stop, name, _begin(tensor)))
    return pending


def _only_extent(tensor: LazyTensor) -> Extent | None:
    extents = tensor.extents
    return extents[0] if extents is not None and len(extents) == 1 else None


def _is_file(extent: Extent, path: Path) -> bool:
    return isinstance(extent.source, FileBytes) and extent.source.path == path
