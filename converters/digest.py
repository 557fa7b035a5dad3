r"""Digests of tensors: the same for the same tensors, whatever file they are in.

A tensor's digest is BLAKE3 over `LABEL\n`, the shape as decimals joined by commas, `\n`, and the
bytes in C order, little endian. The digest of a model is BLAKE3 over its tensors sorted by name:
for each the length of the UTF-8 name as four bytes little endian, the name, and the 32 bytes of the
tensor's digest. Order in the file, container and metadata do not matter; another element type gives
another digest. Models of small tensors have their own rule, in `converters.digest_together`. Of
quantised tensors of GGUF the blocks are digested as they are stored, with their type as the label.

A component's digest is made in the same way over its tensors as `converters.canonical` names them,
with two differences: sizes of 1 at the end of a shape do not count, because a layer is a 1x1
convolution in one layout and linear in another; and the whole begins with `COMPONENT`, whose number
grows with every change of the rules, so that digests of different rules never seem to agree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

from blake3 import blake3

from converters.bytesource import ByteSource, FileBytes
from converters.digest_together import (
    MOST_BYTES,
    are_as_written,
    are_small,
    checksums_of,
    whole_together,
)
from converters.progress import SILENT, Progress
from converters.statedict import Buffer, Extent, LazyTensor, StateDict
from converters.stored import StoredTensors
from converters.weights import (
    CHECKSUM_BYTES,
    Joined,
    Listing,
    TensorDigests,
    Weights,
    encoded,
    head_of,
    is_checked,
)
from converters.weights import DIGEST_BYTES as SHORT_BYTES

COMPONENT = b"assetmgr component 1\n"
DIGEST_BYTES = 32
PIECE_BYTES = 8 << 20
"""How much of a stored tensor is read at a time."""

Parts = Mapping[str, StateDict]
"""Components by name."""


class _Hasher(Protocol):
    def update(self, data: Buffer, /) -> object: ...
    def digest(self) -> bytes: ...


def tensor_digest(tensor: LazyTensor) -> bytes:
    """The 32 bytes that stand for type, shape and values of a tensor; reads it in pieces.

    Those of a small one are followed by its checksum.
    """
    hasher = _begin(tensor)
    for data in _read(tensor):
        hasher.update(data)
    return hasher.digest()


def bytes_to_digest(state: StateDict) -> int:
    """How many bytes the digests of all tensors are made of."""
    stored = ((tensor, tensor.stored[1]) for tensor in state.values())
    return sum(
        tensor.nbytes if extents is None else sum(extent.nbytes for extent in extents)
        for tensor, extents in stored
    )


def weigh(state: StateDict, parts: Parts, progress: Progress = SILENT) -> Weights:
    """All digests of tensors and of components made of them; reads the tensors one at a time."""
    return WeightsDigest(state, parts).finish(progress)


_Key = tuple[object, ...]
"""What tensors of equal bytes, type and shape have in common."""


@dataclass(slots=True)
class _Range:
    """The bytes of a tensor in the file; the hasher lives only while they stream by."""

    start: int
    stop: int
    key: _Key
    tensor: LazyTensor
    hasher: _Hasher | None = None


class WeightsDigest:
    """Makes the digests of a model's tensors from the bytes of its files as they stream by.

    `parts` are its components under the names that they are compared by. Tensors of which no
    stream was asked for, or that do not lie in one piece (transposed views), are read by themselves
    at the end. Of models of small tensors the files are kept until then.
    """

    def __init__(self, state: StateDict, parts: Parts) -> None:
        self._names = {name: (tensor, _key(tensor)) for name, tensor in state.items()}
        self._parts = {part: squeezed(inner) for part, inner in parts.items()}
        self._is_together = are_small(state)
        self._has_digests = bool(parts) or not self._is_together
        stored = state.tensors
        self._structure = stored.structure if isinstance(stored, StoredTensors) else None
        self._wanted: dict[_Key, LazyTensor] = {}
        self._wanted.update(
            (key, tensor)
            for tensor, key in self._names.values()
            if self._has_digests or not is_checked(*_kind(tensor))
        )
        for inner in self._parts.values():
            self._wanted.update((_key(tensor), tensor) for tensor in inner.values())
        self._done: dict[_Key, bytes] = {}
        self._kept: dict[Path, _Kept] = {}

    def stream(self, path: Path) -> Callable[[memoryview], None]:
        """Takes the bytes of the file at `path`, from its first to its last."""
        stream = _Stream(_ranges(self._wanted, path), self._done)
        if not self._is_together:
            return stream.feed
        kept = self._kept[path] = _Kept()

        def feed(data: memoryview) -> None:
            kept.feed(data)
            stream.feed(data)

        return feed

    def finish(self, progress: Progress = SILENT, autov3: str | None = None) -> Weights:
        """The digests; `autov3` is that of a safetensors file.

        Raises FileProblem when a remaining tensor cannot be read, SourceChanged when a file is not
        the one any more that the tensors were found in.
        """
        for key, tensor in self._wanted.items():
            if key not in self._done:
                self._done[key] = tensor_digest(tensor)
                progress.advance(tensor.nbytes)
        listing = Listing({name: _kind(tensor) for name, (tensor, _) in self._names.items()})
        tensors = [self._names[name] for name in listing.names]
        pieces = [self._piece(tensor) for tensor, _ in tensors] if self._is_together else []
        for source in {source for tensor, _ in tensors for source in tensor.sources}:
            source.check_unchanged()
        data = b"".join(pieces)
        if self._has_digests:
            digests: Sequence[bytes] = [self._done[key][:DIGEST_BYTES] for _, key in tensors]
            others = [self._done[tensors[place][1]][DIGEST_BYTES:] for place in listing.checked]
        else:
            digests = checksums_of(list(_one_by_one(pieces)), memoryview(data))
            others = [self._done[tensors[place][1]][:SHORT_BYTES] for place in listing.digested]
        return Weights(
            whole=(
                whole_together(listing, self._sha256(listing, pieces, autov3))
                if pieces
                else whole_of(listing, digests)
            ),
            components={
                part: _of_component(inner, self._done) for part, inner in self._parts.items()
            },
            tensors=TensorDigests(
                listing,
                digests,
                Joined(b"".join(others), CHECKSUM_BYTES if self._has_digests else SHORT_BYTES),
            ),
            parts={part: self._tensors_of(inner) for part, inner in self._parts.items()},
        )

    def _tensors_of(self, part: StateDict) -> TensorDigests:
        """The tensors of a component as its digest was made of them."""
        listing = Listing({name: _kind(tensor) for name, tensor in part.items()})
        digests = (self._done[_key(part[name])][:SHORT_BYTES] for name in listing.names)
        return TensorDigests(listing, Joined(b"".join(digests), SHORT_BYTES))

    def _sha256(self, listing: Listing, pieces: Sequence[memoryview], autov3: str | None) -> bytes:
        """That of the tensors as the safetensors library writes them."""
        structure = self._structure
        if structure is not None and autov3 is not None and are_as_written(listing, structure):
            return bytes.fromhex(autov3)
        written = (pieces[place] for place in listing.written)
        return hashlib.sha256(b"".join(written)).digest()

    def _piece(self, tensor: LazyTensor) -> memoryview:
        """The bytes of a tensor, read if they did not stream by."""
        extent = _only_extent(tensor)
        if extent is not None and isinstance(extent.source, FileBytes):
            kept = self._kept.get(extent.source.path)
            if kept is not None and kept.has(extent):
                return kept.piece(extent)
        return memoryview(tensor.read()).cast("B")


def _one_by_one(pieces: Iterable[memoryview]) -> Iterator[slice]:
    """Where pieces are that were put together."""
    at = 0
    for piece in pieces:
        yield slice(at, at + len(piece))
        at += len(piece)


class _Kept:
    """The bytes of a file, as far as they are not too many."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: memoryview) -> None:
        """The next bytes of the file."""
        if len(self._data) <= MOST_BYTES:
            self._data += data

    def has(self, extent: Extent) -> bool:
        """Whether all bytes of an extent were kept."""
        return extent.offset + extent.nbytes <= len(self._data)

    def piece(self, extent: Extent) -> memoryview:
        """The bytes of an extent."""
        return memoryview(self._data)[extent.offset : extent.offset + extent.nbytes]


class _Stream:
    """The tensors of one file; what is `done` is put there by the tensor's key."""

    def __init__(self, waiting: list[_Range], done: dict[_Key, bytes]) -> None:
        self._waiting, self._done = waiting, done
        self._running: list[_Range] = []
        self._position = 0

    def feed(self, data: memoryview) -> None:
        """The next bytes of the file."""
        begin, end = self._position, self._position + len(data)
        running = [*self._running, *self._beginning_before(end)]
        self._running = [each for each in running if not self._pass(each, data, begin)]
        self._position = end

    def _beginning_before(self, end: int) -> Iterator[_Range]:
        while self._waiting and self._waiting[-1].start < end:
            yield self._waiting.pop()

    def _pass(self, each: _Range, data: memoryview, begin: int) -> bool:
        """Hash what the data hold of a tensor; whether that was the last of it."""
        hasher = each.hasher = each.hasher or _begin(each.tensor)
        hasher.update(data[max(0, each.start - begin) : each.stop - begin])
        if each.stop > begin + len(data):
            return False
        self._done[each.key] = hasher.digest()
        return True


class _Checked:
    """A digest, and behind it the CRC-32 of the same bytes without their head, little endian."""

    def __init__(self, hasher: _Hasher) -> None:
        from zlib_ng.zlib_ng import crc32  # brings gzip with it: only for those who hash

        self._hasher, self._crc32, self._value = hasher, crc32, 0

    def update(self, data: Buffer, /) -> None:
        """The next bytes of the tensor."""
        self._hasher.update(data)
        self._value = self._crc32(data, self._value)

    def digest(self) -> bytes:
        """Both."""
        return self._hasher.digest() + self._value.to_bytes(CHECKSUM_BYTES, "little")


def _begin(tensor: LazyTensor) -> _Hasher:
    """What hashes a tensor: to its digest, of a small one to its checksum, too."""
    kind = _kind(tensor)
    hasher: _Hasher = blake3(head_of(*kind))
    return _Checked(hasher) if is_checked(*kind) else hasher


def _kind(tensor: LazyTensor) -> tuple[str, tuple[int, ...]]:
    return tensor.stored[0], tensor.shape


def whole_of(listing: Listing, digests: Iterable[bytes]) -> str:
    """The digest of a model by those of its tensors, in the order of the listing."""
    joined = b"".join(chain.from_iterable(zip(listing.encoded, digests, strict=True)))
    whole: str = blake3(joined).hexdigest()
    return whole


def _read(tensor: LazyTensor) -> Iterator[Buffer]:
    """The bytes of a tensor, in pieces where it can be had so."""
    extents = tensor.stored[1]
    if extents is None:
        yield from (piece.read() for piece in tensor.pieces or (tensor,))
        return
    for extent in extents:
        for start in range(0, extent.nbytes, PIECE_BYTES):
            count = min(PIECE_BYTES, extent.nbytes - start)
            yield extent.source.pread(extent.offset + start, count)


def _of_component(part: StateDict, done: Mapping[_Key, bytes]) -> str:
    pieces = (encoded(name) + done[_key(part[name])][:DIGEST_BYTES] for name in sorted(part))
    whole: str = blake3(b"".join([COMPONENT, *pieces])).hexdigest()
    return whole


def _key(tensor: LazyTensor) -> _Key:
    return tensor.dtype, tensor.shape, tensor.source


def squeezed(part: StateDict) -> StateDict:
    """The tensors of a component without the sizes of 1 at the ends of their shapes."""
    return part.map(
        lambda _, t: t.reshape(_without_ones(t.shape)) if t.shape[-1:] == (1,) else t,
    )


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    while shape[-1:] == (1,):
        shape = shape[:-1]
    return shape


def _ranges(wanted: Mapping[_Key, LazyTensor], path: Path) -> list[_Range]:
    """The tensors with one extent in the file at `path`, those first that come last."""
    found = [
        _Range(extent.offset, extent.offset + extent.nbytes, key, tensor)
        for key, tensor in wanted.items()
        if (extent := _only_extent(tensor)) is not None and is_at(extent.source, path)
    ]
    return sorted(found, key=lambda each: each.start, reverse=True)


def _only_extent(tensor: LazyTensor) -> Extent | None:
    extents = tensor.stored[1]
    return extents[0] if extents is not None and len(extents) == 1 else None


def is_at(source: ByteSource, path: Path) -> bool:
    """Whether a source is the file at this very path."""
    return isinstance(source, FileBytes) and source.path == path
