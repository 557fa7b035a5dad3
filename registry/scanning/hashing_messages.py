"""What a scan and its hashing processes tell each other: a line of JSON, and the bytes behind it.

No pickles, though they would be our own: nothing in this program reads one in a way that could run
what is in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import IO, Any

from converters.bytesource import Fingerprint
from converters.hashing import FileHashes
from converters.tensor_table import PackedWeights
from registry.scanning.looking import Waiting
from registry.scanning.scan_records import ScannedFile


def ask(pipe: IO[bytes], files: Sequence[Waiting]) -> None:
    """Ask for the hashes of files that are recorded as they are now."""
    asked = [(file.path, file.fingerprint, file.header_bytes, file.kind) for file in files]
    _send(pipe, asked, ())


def questions(pipe: IO[bytes]) -> Iterator[list[Waiting]]:
    """The files of each question, until nothing is asked any more."""
    while line := pipe.readline():
        asked, _ = json.loads(line)
        yield [
            Waiting(path, Fingerprint(*fingerprint), header_bytes, kind, is_recorded=True)
            for path, fingerprint, header_bytes, kind in asked
        ]


def answer(pipe: IO[bytes], files: Sequence[ScannedFile | None]) -> None:
    """Tell what is to be recorded of each file."""
    tables: list[bytes] = []
    _send(pipe, [None if file is None else _told(file, tables) for file in files], tables)


def answer_to(files: Sequence[Waiting], pipe: IO[bytes]) -> list[ScannedFile | None]:
    """What is to be recorded of them. Raises EOFError, TypeError or ValueError for no answer."""
    line = pipe.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    told, lengths = json.loads(line)
    tables = iter([pipe.read(length) for length in lengths])
    return [
        None if of_it is None else _scanned(file.path, of_it, tables)
        for file, of_it in zip(files, told, strict=True)
    ]


def _send(pipe: IO[bytes], told: Sequence[Any], tables: Sequence[bytes]) -> None:
    line = json.dumps((told, [len(table) for table in tables]))
    pipe.write(b"".join((line.encode("ascii"), b"\n", *tables)))
    pipe.flush()


def _told(file: ScannedFile, tables: list[bytes]) -> tuple[Any, ...]:
    """What JSON can hold of a file; the tables of its tensors go to `tables`."""
    hashes, weights = file.hashes, file.weights
    assert hashes is not None  # it was read to its end
    all_hashes = (hashes.blake3, hashes.sha256, hashes.crc32, hashes.autov1, hashes.autov3)
    of_weights = None
    if weights is not None:
        tables += [weights.tensors, *weights.parts.values()]
        of_weights = (weights.whole, dict(weights.components), list(weights.parts))
    return file.bytes, file.mtime_ns, file.inode, all_hashes, of_weights


def _scanned(path: str, told: Sequence[Any], tables: Iterator[bytes]) -> ScannedFile:
    nbytes, mtime_ns, inode, all_hashes, of_weights = told
    weights = None
    if of_weights is not None:
        whole, components, parts = of_weights
        tensors = next(tables)
        weights = PackedWeights(whole, components, tensors, {name: next(tables) for name in parts})
    return ScannedFile(path, nbytes, mtime_ns, inode, FileHashes(*all_hashes), weights, None)
