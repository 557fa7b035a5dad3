"""The one streaming writer: a header, then tensor after tensor from its source.

Unchanged bytes are read once, hashed and written from the same buffer; computed tensors are made in
worker threads a bounded window ahead. Without hashes, for which bytes must come in order, the
kernel copies unchanged bytes while others are computed: the interpreter has nothing to do with
them, which matters most while it is busy importing torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from converters.bytesource import FileBytes, pread_into
from converters.hashing import FileHashes, StreamHasher
from converters.lanes import BLOCK_BYTES, Ring
from converters.progress import Progress
from converters.statedict import Buffer, Extent, InRuns, LazyTensor
from converters.writers.atomic import AtomicTarget, refuse_full
from converters.writers.computing import Computer, Job, computed, require_size

_COPY_BYTES = 16 << 20
"""Bytes that the kernel copies in one call, after which a cancellation is seen."""


def write_stream(
    header: bytes,
    tensors: Sequence[LazyTensor],
    target: Path,
    *,
    begins: int | None,
    overwrite: bool,
    with_hashes: bool,
    progress: Progress,
) -> FileHashes | None:
    """Write a header and tensors one behind the other; `begins` is where AutoV3 begins, if it does.

    Reads each source once. Raises WriteProblem for the target, FileProblem for a source
    (SourceChanged when one was modified meanwhile), and whatever computing a tensor raises; the
    target then is what it was before.
    """
    nbytes = len(header) + sum(tensor.nbytes for tensor in tensors)
    refuse_full(target, nbytes)
    progress.stage(f"writing {target.name}", nbytes)
    with AtomicTarget(target, overwrite=overwrite) as file:
        hashes = None
        if with_hashes:
            parts = [part for tensor in tensors for part in tensor.pieces or (tensor,)]
            hashes = _write_hashed(file, header, parts, begins, progress)
        else:
            parts = [part for tensor in tensors for part in _at_once(tensor)]
            file.reserve(nbytes)
            _write_scattered(file, header, parts, progress)
        progress.advance(0)  # so that a cancellation is still seen before the commit
        for source in dict.fromkeys(s for tensor in tensors for s in tensor.sources):
            source.check_unchanged()
        file.commit()
    return hashes


def _write_hashed(
    file: AtomicTarget,
    header: bytes,
    parts: list[LazyTensor],
    begins: int | None,
    progress: Progress,
) -> FileHashes:
    """Everything in its order."""
    jobs = (Job(part.nbytes, partial(computed, part)) for part in parts if part.extents is None)
    with StreamHasher(begins) as hasher, Computer(jobs) as computer:
        output = _Output(file, hasher, progress)
        output.put(header)
        for _, piece in _pieces(parts, len(header)):
            if isinstance(piece, Extent):
                output.copy(piece)
            else:
                output.put(computer.next())
        return hasher.finish()


def _write_scattered(
    file: AtomicTarget, header: bytes, parts: list[LazyTensor], progress: Progress
) -> None:
    """Computed tensors by the threads that make them, stored bytes in the meantime.

    What was just computed is still in the cache of the processor that writes it.
    """
    file.write(header)
    progress.advance(len(header))
    pieces = list(_pieces(parts, len(header)))
    places = [(at, piece) for at, piece in pieces if isinstance(piece, LazyTensor)]
    copies = _blocks((at, piece) for at, piece in pieces if isinstance(piece, Extent))
    ring = Ring(1)
    jobs = (Job(_held(tensor), partial(_place, file, at, tensor)) for at, tensor in places)
    with Computer(jobs) as computer:
        left, block = len(places), next(copies, None)
        while left or block:
            if block is None or computer.is_ready:
                progress.advance(computer.next())
                left -= 1
                continue
            _copy(file, *block, ring)
            progress.advance(block[1].nbytes)
            block = next(copies, None)


def _at_once(tensor: LazyTensor) -> tuple[LazyTensor, ...]:
    """What a thread does of a tensor: all of it if it comes in runs, whose memory it has."""
    return (tensor,) if isinstance(tensor.source, InRuns) else tensor.pieces or (tensor,)


def _held(tensor: LazyTensor) -> int:
    """Bytes that computing a tensor to its place takes."""
    return 0 if isinstance(tensor.source, InRuns) else tensor.nbytes


def _place(file: AtomicTarget, at: int, tensor: LazyTensor) -> int:
    """Compute a tensor and write it; its size in bytes."""
    end = at
    for run in tensor.runs():
        file.write_at(end, run)
        end += memoryview(run).nbytes
    require_size(tensor, end - at)
    return tensor.nbytes


def _blocks(extents: Iterable[tuple[int, Extent]]) -> Iterator[tuple[int, Extent]]:
    """Extents, each with its place in the target, cut into what is copied at a time."""
    for at, extent in extents:
        for done in range(0, extent.nbytes, _COPY_BYTES):
            count = min(_COPY_BYTES, extent.nbytes - done)
            yield at + done, Extent(extent.source, extent.offset + done, count)


def _copy(file: AtomicTarget, at: int, extent: Extent, ring: Ring) -> None:
    done = 0
    if isinstance(extent.source, FileBytes):
        done = file.copy_at(at, extent.source.fileno(), extent.offset, extent.nbytes)
    while done < extent.nbytes:
        block = ring.take(min(BLOCK_BYTES, extent.nbytes - done))
        pread_into(extent.source, extent.offset + done, block.view)
        file.write_at(at + done, block.view)
        done += len(block.view)
        block.release()


def _pieces(tensors: list[LazyTensor], start: int) -> Iterator[tuple[int, Extent | LazyTensor]]:
    """Where each piece belongs: computed tensors, and stored bytes with their neighbours joined."""
    joined, joined_at, at = None, start, start
    for tensor in tensors:
        for piece in (tensor,) if tensor.extents is None else tensor.extents:
            grown = _joined(joined, piece)
            if grown is None:
                if joined:
                    yield joined_at, joined
                joined, joined_at = None, at
                if isinstance(piece, LazyTensor):
                    yield at, piece
                else:
                    grown = piece
            joined = grown
            at += piece.nbytes
    if joined:
        yield joined_at, joined


def _joined(extent: Extent | None, following: Extent | LazyTensor) -> Extent | None:
    """Two extents that are one run of bytes."""
    if extent is None or isinstance(following, LazyTensor):
        return None
    if extent.source is not following.source or _end(extent) != following.offset:
        return None
    return Extent(extent.source, extent.offset, extent.nbytes + following.nbytes)


def _end(extent: Extent) -> int:
    return extent.offset + extent.nbytes


class _Output:
    """Appends pieces to the file, hashing them on the way."""

    def __init__(self, file: AtomicTarget, hasher: StreamHasher, progress: Progress) -> None:
        self._file, self._hasher, self._progress = file, hasher, progress
        self._ring = Ring()

    def put(self, data: Buffer) -> None:
        """Bytes in memory; a computed tensor must not be changed by anybody afterwards."""
        view = memoryview(data)
        for start in range(0, len(view), BLOCK_BYTES):
            part = view[start : start + BLOCK_BYTES]
            self._file.write(part)
            self._hasher.update(part)
            self._progress.advance(len(part))

    def copy(self, piece: Extent) -> None:
        """Bytes of a source."""
        for start in range(0, piece.nbytes, BLOCK_BYTES):
            block = self._ring.take(min(BLOCK_BYTES, piece.nbytes - start), self._hasher.lanes)
            pread_into(piece.source, piece.offset + start, block.view)
            self._hasher.update(block.view, block.release)
            # Written while it is hashed; both only read the buffer, and it cannot come back to
            # us before this thread takes the next one.
            self._file.write(block.view)
            self._progress.advance(len(block.view))
