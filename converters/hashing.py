"""Every hash by which a model file is known, from one read of its bytes.

| hash | bytes | shown as |
|---|---|---|
| BLAKE3, SHA-256, CRC32 | the whole file | 64, 64, 8 hex digits |
| AutoV1 | SHA-256 of 65,536 bytes from 0x100000 | first 8; of nothing when the file is shorter |
| AutoV2 | SHA-256 | first 10 |
| AutoV3 | SHA-256 of a safetensors file behind its header | 64, commonly the first 12 |

Sources: A1111 `modules/hashes.py` and `modules/sd_models.py`, kohya-ss/sd-scripts
`library/train_util.py` (addnet_hash_safetensors), civitai `docs/features/model-file-scanning.md`.
The hash functions release the interpreter lock, so threads share them, fed from a ring of buffers
that are reused. Two SHA-256 are most of the work, and none of it is shared because their blocks
begin elsewhere: on two cores the others must be cheap to stay near the time of one, hence zlib-ng,
ten times as fast as the CRC32 of zlib.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from mmap import mmap
from os import PathLike
from typing import Protocol, Self

from blake3 import blake3

from converters.bytesource import FileBytes, Fingerprint, pread_into
from converters.digest import Parts, WeightsDigest
from converters.digest_small import weigh_content
from converters.errors import FileProblem, SourceChanged
from converters.lanes import BLOCK_BYTES, RING_BLOCKS, Consumer, Countdown, Lanes, Ring
from converters.page_memory import page_memory
from converters.progress import SILENT, Progress
from converters.statedict import Buffer, StateDict
from converters.weights import Weights

AUTOV1_START = 0x100000
AUTOV1_BYTES = 0x10000
PIECE_BYTES = 1 << 19
"""Read at a time: what the reading thread hashes is then still in the cache of its processor, where
BLAKE3 is a fifth faster."""
SMALL_BYTES = 4 << 20
"""Files up to this size are read as a whole and hashed by one thread."""
NO_PARTS: Parts = {}


class _Own(threading.local):
    """What each thread reads small files into."""

    buffer: mmap | None = None


_OWN = _Own()


@dataclass(frozen=True, slots=True)
class FileHashes:
    """All hashes of a file as lower-case hex; `autov3` is None unless it is a safetensors file."""

    blake3: str
    sha256: str
    crc32: str
    autov1: str
    autov3: str | None = None

    @property
    def autov2(self) -> str:
        """The first ten digits of SHA-256, as A1111 shows them."""
        return self.sha256[:10]


@dataclass(frozen=True, slots=True)
class HashedFile:
    """What one read of a file gave, and the state of the file that was read.

    `weights` are None when they were not asked for, or could not be had: `unread` says why.
    """

    hashes: FileHashes
    weights: Weights | None
    fingerprint: Fingerprint
    unread: FileProblem | None = None


def hash_file(
    path: str | PathLike[str],
    progress: Progress = SILENT,
    *,
    header_bytes: int | None = None,
    weights_of: StateDict | None = None,
    parts: Parts = NO_PARTS,
    also: Sequence[Consumer] = (),
) -> HashedFile:
    """Hash a file in one read.

    `header_bytes` is where the data of a safetensors file begins and asks for AutoV3; `weights_of`
    are the tensors of this very file and asks for their digests, `parts` its components as they are
    to be compared; `also` get the bytes too. Raises FileProblem when it cannot be read and
    SourceChanged when it was modified meanwhile, or since the tensors were opened.
    """
    source = FileBytes(path)
    if source.size <= SMALL_BYTES:
        return _hash_small(source, progress, header_bytes, weights_of, parts, also)
    digest = WeightsDigest(weights_of, parts) if weights_of is not None else None
    extra: list[Consumer] = [*also, *([digest.stream(source.path)] if digest else [])]
    # Small files are many: they get no more memory than they fill.
    count = min(RING_BLOCKS, -(-source.size // BLOCK_BYTES))
    ring = Ring(count, min(BLOCK_BYTES, source.size))
    with StreamHasher(header_bytes, extra) as hasher:
        for offset in range(0, source.size, BLOCK_BYTES):
            block = ring.take(min(BLOCK_BYTES, source.size - offset), hasher.lanes)
            for start in range(0, len(block.view), PIECE_BYTES):
                piece = block.view[start : start + PIECE_BYTES]
                pread_into(source, offset + start, piece)
                hasher.update_quick(piece)
            hasher.update_slow(block.view, block.release)
            progress.advance(len(block.view))
        hashes = hasher.finish()
    weights, unread = finished(digest, hashes.autov3)
    source.check_unchanged()
    return HashedFile(hashes, weights, source.fingerprint, unread)


def finished(
    digest: WeightsDigest | None, autov3: str | None = None
) -> tuple[Weights | None, FileProblem | None]:
    """The digests asked for, or why there are none; raises SourceChanged."""
    return (None, None) if digest is None else _attempt(lambda: digest.finish(autov3=autov3))


def _attempt(finish: Callable[[], Weights]) -> tuple[Weights | None, FileProblem | None]:
    """The digests, or why there are none: tensors can be unreadable where the file is not."""
    try:
        return finish(), None
    except SourceChanged:
        raise
    except FileProblem as error:
        return None, error


def _hash_small(
    source: FileBytes,
    progress: Progress,
    header_bytes: int | None,
    state: StateDict | None,
    parts: Parts,
    also: Sequence[Consumer],
) -> HashedFile:
    """Without threads of its own: starting them takes longer than the work."""
    data = _memory(source.size)
    pread_into(source, 0, data)
    progress.advance(len(data))
    for consume in also:
        consume(data)
    hashes = hash_bytes(data, header_bytes)
    weights, unread = None, None
    if state is not None:
        inside = (state, parts, source.path, data, hashes.autov3)
        weights, unread = _attempt(lambda: weigh_content(*inside))
    source.check_unchanged()
    return HashedFile(hashes, weights, source.fingerprint, unread)


def _memory(size: int) -> memoryview:
    """The first bytes of this thread's own buffer.

    Fresh memory for each file takes longer to get than to read into.
    """
    buffer = _OWN.buffer
    if buffer is None or len(buffer) < size:
        buffer = _OWN.buffer = page_memory(SMALL_BYTES)
    return memoryview(buffer)[:size]


def hash_bytes(data: memoryview, header_bytes: int | None = None) -> FileHashes:
    """The hashes of a file whose bytes are all there; `header_bytes` as for `hash_file`."""
    crc32 = _Crc32()
    crc32.update(data)
    window = data[AUTOV1_START : AUTOV1_START + AUTOV1_BYTES]
    behind = None if header_bytes is None else hashlib.sha256(data[header_bytes:]).hexdigest()
    return FileHashes(
        blake3=blake3(data).hexdigest(),
        sha256=hashlib.sha256(data).hexdigest(),
        crc32=crc32.hexdigest(),
        autov1=hashlib.sha256(window).hexdigest()[:8],
        autov3=behind,
    )


class _Hash(Protocol):
    def update(self, data: memoryview, /) -> object: ...


class StreamHasher:
    """Hashes bytes that arrive in order, each SHA-256 in a lane, the rest in the caller's thread.

    `header_bytes` (8 + header length of a safetensors file) asks for AutoV3. `extra` are further
    quick consumers of the same bytes. Use as a context manager: leaving it early stops the threads.
    The caller works for the `lanes`, too, where it waits for them.
    """

    def __init__(
        self,
        header_bytes: int | None = None,
        extra: Sequence[Consumer] = (),
    ) -> None:
        self._sha256, self._blake3, self._crc32 = hashlib.sha256(), blake3(), _Crc32()
        self._autov1, self._autov3 = hashlib.sha256(), hashlib.sha256()
        self._wants_autov3 = header_bytes is not None
        window = _window(self._autov1, AUTOV1_START, AUTOV1_START + AUTOV1_BYTES)
        # Together less work than one SHA-256: done where the bytes were just read, still in cache.
        self._quick: list[Consumer] = [self._blake3.update, self._crc32.update, window, *extra]
        slow: list[Consumer] = [self._sha256.update]
        if header_bytes is not None:
            slow.append(_window(self._autov3, header_bytes, None))
        self.lanes = Lanes(slow)
        self._shares = len(slow)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.lanes.abandon()

    def update(self, data: Buffer, release: Callable[[], None] | None = None) -> None:
        """Hash the next bytes; they must not change before `release` is called (from a thread)."""
        view = memoryview(data)
        done = Countdown(self._shares + 1, release) if release else None
        self.lanes.feed(view, done)
        self.update_quick(view)
        if done is not None:
            done.tick()

    def update_slow(self, view: memoryview, release: Callable[[], None]) -> None:
        """What takes long, of bytes that `update_quick` had; as for `update`."""
        self.lanes.feed(view, Countdown(self._shares, release))

    def update_quick(self, view: memoryview) -> None:
        """The rest, at once; in pieces of any size, whose whole `update_slow` gets then."""
        for consume in self._quick:
            consume(view)

    def finish(self) -> FileHashes:
        """Wait for all threads and give the hashes. Raises what a consumer raised."""
        self.lanes.finish()
        return FileHashes(
            blake3=self._blake3.hexdigest(),
            sha256=self._sha256.hexdigest(),
            crc32=self._crc32.hexdigest(),
            autov1=self._autov1.hexdigest()[:8],
            autov3=self._autov3.hexdigest() if self._wants_autov3 else None,
        )


class _Crc32:
    def __init__(self) -> None:
        from zlib_ng.zlib_ng import crc32  # brings gzip with it: only for those who hash

        self._crc32 = crc32
        self._value = 0

    def update(self, data: memoryview) -> None:
        self._value = self._crc32(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


def _window(target: _Hash, start: int, stop: int | None) -> Consumer:
    """A consumer that passes on only the bytes from `start` to `stop` of the whole stream."""
    position = 0

    def update(data: memoryview) -> None:
        nonlocal position
        first, last = start - position, len(data) if stop is None else stop - position
        position += len(data)
        if last > 0 and first < len(data):
            target.update(data[max(0, first) : last])

    return update
