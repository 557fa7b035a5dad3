"""All hashes of a file in one read, equal to what their owners compute."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import blake3
import pytest
from helpers.examples import examples
from hypothesis import given
from hypothesis import strategies as st

from converters import hashing
from converters.bytesource import FileBytes
from converters.digest import weigh
from converters.dtypes import DType
from converters.errors import Cancelled, FileMissing, SourceChanged
from converters.hashing import StreamHasher, hash_bytes, hash_file
from converters.progress import CancellableProgress, Progress
from converters.statedict import Extent, LazyTensor, StateDict

PATTERN = bytes(range(256)) * 8192


def test_published_vectors(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    small = hash_file(path).hashes
    assert small.sha256.startswith("ba7816bf8f01cfea")
    assert small.blake3.startswith("6437b3ac3846")
    assert small.crc32 == "352441c2"
    assert small.autov1 == "e3b0c442", "the hash of nothing: the file ends before the window"
    path.write_bytes(PATTERN)
    large = hash_file(path).hashes
    assert large.sha256.startswith("91d3beb88a9b")
    assert large.autov1 == "7daca209"
    assert large.blake3.startswith("26aa5fa24030")
    assert large.crc32 == "f2a904a4"
    assert large.autov2 == large.sha256[:10]
    assert large.autov3 is None


def test_a_thread_may_begin_with_a_file_of_no_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(hash_file, path).result().hashes == hash_bytes(memoryview(b""))


def test_autov3_covers_what_follows_the_header_and_ignores_the_header(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    seen = set()
    for title in ("a", "a longer title"):
        header = json.dumps({"__metadata__": {"title": title}}).encode()
        path = tmp_path / f"{len(title)}.safetensors"
        path.write_bytes(len(header).to_bytes(8, "little") + header + data)
        hashes = hash_file(path, header_bytes=8 + len(header)).hashes
        assert hashes.autov3 == hashlib.sha256(data).hexdigest()
        seen.add((hashes.autov3, hashes.sha256))
    assert len({autov3 for autov3, _ in seen}) == 1
    assert len({sha256 for _, sha256 in seen}) == 2


@examples(30)
@given(
    size=st.integers(0, 0x130000),
    cuts=st.lists(st.integers(0, 0x130000), max_size=5),
    header=st.integers(0, 2000),
)
def test_however_the_bytes_arrive_the_hashes_are_those_of_the_whole(
    size: int, cuts: list[int], header: int
) -> None:
    data = PATTERN[:size]
    edges = [0, *sorted(min(cut, size) for cut in cuts), size]
    with StreamHasher(header) as hasher:
        for start, stop in itertools.pairwise(edges):
            hasher.update(data[start:stop])
        hashes = hasher.finish()
    assert hashes.sha256 == hashlib.sha256(data).hexdigest()
    assert hashes.blake3 == blake3.blake3(data).hexdigest()
    assert hashes.crc32 == f"{zlib.crc32(data):08x}"
    assert hashes.autov1 == hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8]
    assert hashes.autov3 == hashlib.sha256(data[header:]).hexdigest()


def test_a_further_consumer_that_fails_ends_the_hashing() -> None:
    def broken(_: memoryview) -> None:
        raise ValueError("broken consumer")

    hasher = StreamHasher(extra=[broken])
    threads = list(hasher.lanes._helpers)
    with pytest.raises(ValueError, match="broken consumer"), hasher:
        hasher.update(b"x" * 1000)
    assert threads
    assert not any(thread.is_alive() for thread in threads)


def test_a_file_is_hashed_in_pieces_and_blocks_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(PATTERN)
    expected = hash_bytes(memoryview(PATTERN), 1234)
    seen = bytearray()
    monkeypatch.setattr(hashing, "SMALL_BYTES", 0)
    for block, piece in ((1 << 18, 1 << 16), (300_001, 7_777), (65_536, 1 << 20)):
        monkeypatch.setattr(hashing, "BLOCK_BYTES", block)
        monkeypatch.setattr(hashing, "PIECE_BYTES", piece)
        seen.clear()
        assert hash_file(path, header_bytes=1234, also=[seen.extend]).hashes == expected
        assert seen == PATTERN


def test_a_file_modified_while_it_is_hashed_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(PATTERN)

    class Meddler(Progress):
        def advance(self, amount: int = 1) -> None:
            os.utime(path, ns=(1, 1))

    with pytest.raises(SourceChanged, match="modified"):
        hash_file(path, Meddler())


def test_hashing_can_be_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(PATTERN)
    progress = CancellableProgress()
    progress.cancel()
    with pytest.raises(Cancelled):
        hash_file(path, progress)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="absent"):
        hash_file(tmp_path / "absent")


def stored(path: Path, tensors: dict[str, tuple[DType, tuple[int, ...], int, int]]) -> StateDict:
    """A state dict over ranges (offset, count) of the file at `path`."""
    source = FileBytes(path)
    return StateDict(
        {
            name: LazyTensor(dtype, shape, (Extent(source, start, count),), name)
            for name, (dtype, shape, start, count) in tensors.items()
        }
    )


@examples(25)
@given(data=st.data())
def test_the_digest_of_the_stream_is_the_digest_of_the_tensors(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("digest") / "file"
    path.write_bytes(PATTERN[:5000])
    ranges = data.draw(
        st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 900)), min_size=0, max_size=6)
    )
    tensors = {f"t{i}": (DType.U8, (n,), at, n) for i, (at, n) in enumerate(ranges)}
    state = stored(path, tensors)
    small = data.draw(st.sampled_from([0, 9000]))
    block = data.draw(st.sampled_from([64, 700, 5000, 9000]))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(hashing, "SMALL_BYTES", small)
        monkeypatch.setattr(hashing, "BLOCK_BYTES", block)
        hashed = hash_file(path, weights_of=state)
    assert hashed.weights is not None
    assert hashed.weights.whole == weigh(state, {}).whole


def test_the_digest_ignores_order_and_place_but_not_type_shape_name_or_value(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"aaaabbbb" + b"bbbbaaaa")
    base = {"a": (DType.F32, (1,), 0, 4), "b": (DType.F32, (1,), 4, 4)}
    moved = {"b": (DType.F32, (1,), 8, 4), "a": (DType.F32, (1,), 12, 4)}
    digest = weigh(stored(path, base), {}).whole
    assert digest == weigh(stored(path, moved), {}).whole
    others = [
        {**base, "a": (DType.I32, (1,), 0, 4)},
        {**base, "a": (DType.F32, (1, 1), 0, 4)},
        {**base, "a": (DType.F32, (1,), 4, 4)},
        {"c": base["a"], "b": base["b"]},
        {"a": base["a"]},
    ]
    assert len({weigh(stored(path, other), {}).whole for other in others} | {digest}) == 6
