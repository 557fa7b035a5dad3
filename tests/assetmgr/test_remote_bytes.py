"""Bytes of a remote file: the same as a local one's, in few requests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetmgr.sources import remote
from assetmgr.sources.remote import BLOCK_BYTES, RemoteBytes
from converters.bytesource import ByteSource
from converters.errors import NotAvailable, TruncatedFile

DATA = bytes(range(251)) * 2000


def source(data: bytes = DATA) -> RemoteBytes:
    return RemoteBytes("far", len(data), lambda start, count: data[start : start + count])


@given(st.lists(st.tuples(st.integers(0, len(DATA)), st.integers(0, len(DATA))), max_size=8))
def test_every_range_is_what_it_is_and_no_block_is_fetched_twice(
    ranges: list[tuple[int, int]],
) -> None:
    far = source()
    for start, end in (sorted(pair) for pair in ranges):
        assert far.pread(start, end - start) == DATA[start:end]
    assert far.cost.received <= 2 * len(DATA)
    before = far.cost.requests
    for start, end in (sorted(pair) for pair in ranges):
        far.pread(start, end - start)
    assert far.cost.requests == before


def test_neighbouring_blocks_are_one_request() -> None:
    far = source()
    far.pread(10, 5 * BLOCK_BYTES)
    assert (far.cost.requests, far.cost.received) == (1, 6 * BLOCK_BYTES)


def test_it_is_a_byte_source_and_ends_where_it_ends() -> None:
    far: ByteSource = source()
    with pytest.raises(TruncatedFile, match="far"):
        far.pread(len(DATA) - 1, 2)


def test_whoever_needs_too_much_is_told_to_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MOST_BYTES", 3 * BLOCK_BYTES)
    far = source()
    far.pread(0, 2 * BLOCK_BYTES)
    with pytest.raises(NotAvailable, match="to look into"):
        far.pread(2 * BLOCK_BYTES, 2 * BLOCK_BYTES)
