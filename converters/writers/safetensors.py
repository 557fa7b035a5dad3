"""The one streaming safetensors writer: header first, then tensor after tensor from its source.

Format and order of tensors: huggingface/safetensors `safetensors/src/tensor.rs` (type rank
descending, then name), so that the file equals what that library would write for the same tensors
and metadata in sorted order. Unchanged bytes are read once, hashed and written from the same buffer
(copying inside the kernel was no faster: the tensors of two files seldom lie alike on their pages);
computed tensors are made in worker threads a bounded window ahead.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from converters.bytesource import pread_into
from converters.errors import AssetmgrError, BadValue
from converters.hashing import FileHashes, StreamHasher
from converters.lanes import BLOCK_BYTES, Ring
from converters.progress import SILENT, Progress
from converters.statedict import Buffer, Extent, LazyTensor, StateDict
from converters.writers.atomic import AtomicTarget, refuse_full

WINDOW_BYTES = 32 << 20
"""Bytes of computed tensors held at a time (always at least one tensor)."""
_WORKERS = 2


@dataclass(frozen=True, slots=True)
class SafetensorsLayout:
    """The header of a file not yet written, the order of its tensors, and its size in bytes."""

    header: bytes
    order: tuple[str, ...]
    nbytes: int


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was written; `hashes` is None when they were not asked for."""

    path: Path
    nbytes: int
    tensors: int
    hashes: FileHashes | None


def layout_of(state: StateDict) -> SafetensorsLayout:
    """Plan the file without reading or writing anything. Raises BadValue for impossible names."""
    order = sorted(state, key=lambda name: (-state[name].dtype.rank, name))
    entries: dict[str, object] = {}
    if state.metadata:
        entries["__metadata__"] = dict(sorted(state.metadata.items()))
    position = 0
    for name in order:
        tensor = state[name]
        end = position + tensor.nbytes
        entries[name] = {
            "dtype": tensor.dtype.label,
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    if "__metadata__" in state:
        raise BadValue("a tensor cannot be named __metadata__ in a safetensors file")
    header = _encode(entries)
    return SafetensorsLayout(header, tuple(order), len(header) + position)


def _encode(entries: dict[str, object]) -> bytes:
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":"))
    try:
        body = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadValue(f"a name or text is not valid Unicode: {error.object[:60]!r}") from error
    body += b" " * (-len(body) % 8)
    return len(body).to_bytes(8, "little") + body


def write_safetensors(
    state: StateDict,
    target: Path,
    *,
    overwrite: bool = False,
    with_hashes: bool = True,
    progress: Progress = SILENT,
) -> Written:
    """Write the tensors and metadata of `state`; reads each source once.

    With `with_hashes` all hashes of the written file are made in the same pass. Raises WriteProblem
    for the target, FileProblem for a source (SourceChanged when one was modified meanwhile), and
    whatever computing a tensor raises; the target then is what it was before.
    """
    layout = layout_of(state)
    refuse_full(target, layout.nbytes)
    progress.stage(f"writing {target.name}", layout.nbytes)
    hashing: AbstractContextManager[StreamHasher | None] = nullcontext()
    if with_hashes:
        hashing = StreamHasher(header_bytes=len(layout.header))
    with AtomicTarget(target, overwrite=overwrite) as file, hashing as hasher:
        output = _Output(file, hasher, progress)
        output.put(layout.header)
        tensors = [state[name] for name in layout.order]
        parts = [part for tensor in tensors for part in tensor.pieces or (tensor,)]
        with _Computer(parts) as computer:
            for piece in _pieces(parts):
                output.write(computer.compute(piece) if isinstance(piece, LazyTensor) else piece)
        output.flush()
        for source in dict.fromkeys(s for tensor in tensors for s in tensor.sources):
            source.check_unchanged()
        hashes = hasher.finish() if hasher else None
        file.commit()
    return Written(target, layout.nbytes, len(tensors), hashes)


def _pieces(tensors: list[LazyTensor]) -> Iterator[Extent | LazyTensor]:
    """Computed tensors as they are; stored bytes as extents, neighbours joined into one."""
    joined: Extent | None = None
    for tensor in tensors:
        if tensor.extents is None:
            if joined:
                yield joined
            joined = None
            yield tensor
            continue
        for extent in tensor.extents:
            if joined and joined.source is extent.source and _end(joined) == extent.offset:
                joined = Extent(joined.source, joined.offset, joined.nbytes + extent.nbytes)
                continue
            if joined:
                yield joined
            joined = extent
    if joined:
        yield joined


def _end(extent: Extent) -> int:
    return extent.offset + extent.nbytes


class _Output:
    """Appends pieces to the file, hashing them on the way when asked to."""

    def __init__(self, file: AtomicTarget, hasher: StreamHasher | None, progress: Progress) -> None:
        self._file, self._hasher, self._progress = file, hasher, progress
        self._ring = Ring()

    def write(self, piece: Extent | Buffer) -> None:
        if isinstance(piece, Extent):
            self._copy(piece)
        else:
            self.put(piece)

    def put(self, data: Buffer) -> None:
        """Bytes in memory; a computed tensor must not be changed by anybody afterwards."""
        view = memoryview(data)
        for start in range(0, len(view), BLOCK_BYTES):
            part = view[start : start + BLOCK_BYTES]
            self._file.write(part)
            if self._hasher:
                self._hasher.update(part)
            self._progress.advance(len(part))

    def flush(self) -> None:
        """Report the last bytes, so that a cancellation is still seen before the commit."""
        self._progress.advance(0)

    def _copy(self, piece: Extent) -> None:
        for start in range(0, piece.nbytes, BLOCK_BYTES):
            lanes = self._hasher.lanes if self._hasher else None
            block = self._ring.take(min(BLOCK_BYTES, piece.nbytes - start), lanes)
            pread_into(piece.source, piece.offset + start, block.view)
            if self._hasher:
                self._hasher.update(block.view, block.release)
            # Written while it is hashed; both only read the buffer, and it cannot come back to
            # us before this thread takes the next one.
            self._file.write(block.view)
            if not self._hasher:
                block.release()
            self._progress.advance(len(block.view))


class _Computer:
    """Makes computed tensors in worker threads, in the order they will be written."""

    def __init__(self, tensors: list[LazyTensor]) -> None:
        self._waiting = deque(tensor for tensor in tensors if tensor.extents is None)
        self._running: deque[tuple[LazyTensor, Future[Buffer]]] = deque()
        self._pool = ThreadPoolExecutor(_WORKERS, "compute") if self._waiting else None

    def __enter__(self) -> Self:
        self._start_more()
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def compute(self, tensor: LazyTensor) -> Buffer:
        """The bytes of the next computed tensor. Raises what computing it raises."""
        self._start_more()
        _, future = self._running.popleft()
        data = future.result()
        if memoryview(data).nbytes != tensor.nbytes:
            raise AssetmgrError(
                f"computed {memoryview(data).nbytes} bytes where {tensor.nbytes} belong",
                path=tensor.origin,
            )
        return data

    def _start_more(self) -> None:
        held = sum(tensor.nbytes for tensor, _ in self._running)
        while self._waiting and self._pool is not None:
            tensor = self._waiting[0]
            if self._running and held + tensor.nbytes > WINDOW_BYTES:
                return
            held += tensor.nbytes
            self._running.append((tensor, self._pool.submit(tensor.read)))
            self._waiting.popleft()
