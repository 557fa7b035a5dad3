"""The packed table of a file's tensors."""

from __future__ import annotations

import json
import zlib

import pytest
from helpers.examples import examples
from helpers.pipelines import true_sdxl
from hypothesis import given
from hypothesis import strategies as st

from converters.errors import CorruptFile
from converters.tensor_table import pack, unpack
from converters.weights import (
    CHECKSUM_BYTES,
    DIGEST_BYTES,
    Joined,
    Listing,
    TensorDigest,
    TensorDigests,
)

kinds = st.tuples(st.sampled_from(["F16", "BF16", "I64"]), st.lists(st.integers(0, 9)).map(tuple))
tensors = st.builds(
    lambda kind, digest: TensorDigest(*kind, digest), kinds, st.binary(min_size=32, max_size=32)
)
names = st.text(st.characters(codec=None), max_size=20)
tables = st.dictionaries(names, tensors, max_size=10)


def listed(table: dict[str, TensorDigest]) -> TensorDigests:
    listing = Listing({name: each[:2] for name, each in table.items()})
    return TensorDigests(listing, tuple(table[name].digest for name in listing.names))


def shortened(table: dict[str, TensorDigest]) -> dict[str, TensorDigest]:
    return {name: each._replace(digest=each.digest[:DIGEST_BYTES]) for name, each in table.items()}


@given(table=tables)
def test_a_table_comes_back_with_shortened_digests(table: dict[str, TensorDigest]) -> None:
    assert unpack(pack(listed(table))) == shortened(table)


@given(table=tables)
def test_equal_tables_are_packed_alike_in_any_order(table: dict[str, TensorDigest]) -> None:
    assert pack(listed(dict(reversed(table.items())))) == pack(listed(table))


def test_names_and_shapes_take_little_beside_the_digests() -> None:
    table = {
        name: TensorDigest("F16", s, name.encode()[-1:] * 32) for name, s in true_sdxl().items()
    }
    assert len(pack(listed(table))) < len(table) * (DIGEST_BYTES + 5)


@examples(200)
@given(table=tables, data=st.data())
def test_damage_is_a_clear_error_or_harmless(
    table: dict[str, TensorDigest], data: st.DataObject
) -> None:
    packed = bytearray(pack(listed(table)))
    at = data.draw(st.integers(0, len(packed) - 1))
    change = data.draw(st.sampled_from(["cut", "flip", "grow"]))
    if change == "flip":
        packed[at] ^= data.draw(st.integers(1, 255))
    damaged = bytes({"cut": packed[:at], "grow": packed + b"x"}.get(change, packed))
    try:
        found = unpack(damaged)
    except CorruptFile as error:
        cause = error.cause
    else:
        cause = "the table of tensor digests is as good as before"
        assert change == "flip"
        assert found.keys() == table.keys()
    assert "the table of tensor digests" in cause


@given(table=tables)
def test_checksums_come_back_as_they_are(table: dict[str, TensorDigest]) -> None:
    plain = listed(table)
    data = b"".join(digest[:CHECKSUM_BYTES] for digest in plain.digests)
    summed = TensorDigests(plain.listing, Joined(data, CHECKSUM_BYTES))
    packed = pack(summed)
    assert unpack(packed) == summed
    assert len(packed) == len(pack(plain)) - len(table) * (DIGEST_BYTES - CHECKSUM_BYTES)


@given(table=tables, are_sums=st.booleans())
def test_the_other_sort_comes_back_for_the_tensors_that_have_it(
    table: dict[str, TensorDigest], are_sums: bool
) -> None:
    plain = listed(table)
    widths = (DIGEST_BYTES, CHECKSUM_BYTES)
    width, more = widths[::-1] if are_sums else widths
    digests = Joined(b"".join(digest[:width] for digest in plain.digests), width)
    places = plain.listing.digested if are_sums else plain.listing.checked
    names_with = {plain.listing.names[place] for place in places}
    others = Joined(b"".join(plain.digests[place][:more] for place in places), more)
    found = unpack(pack(TensorDigests(plain.listing, digests, others)))
    assert found == {
        name: each._replace(
            digest=each.digest[:width], other=each.digest[:more] if name in names_with else b""
        )
        for name, each in table.items()
    }
    for broken in (pack(TensorDigests(plain.listing, digests, others)) + b"x",):
        with pytest.raises(CorruptFile, match="table of tensor digests"):
            unpack(broken)


def _with_text(text: bytes, count: int) -> bytes:
    packed = zlib.compress(text)
    head = bytes([1]) + count.to_bytes(4, "little") + len(packed).to_bytes(4, "little")
    return head + packed + bytes(DIGEST_BYTES * count)


@pytest.mark.parametrize(
    ("columns", "count"),
    [
        (3, 1),
        ([], 1),
        ([["a"], [["F16", [1]]]], 1),
        ([["a"], [["F16", [1]]], [1]], 1),
        ([["a"], [["F16", [1]]], [-1]], 1),
        ([["a"], [["F16", [1]]], [True]], 1),
        ([["a"], [["F16", [-1]]], [0]], 1),
        ([["a"], [["F16", ["1"]]], [0]], 1),
        ([["a"], [["F16", 1]], [0]], 1),
        ([["a"], [[16, [1]]], [0]], 1),
        ([["a"], [["F16"]], [0]], 1),
        ([[1], [["F16", [1]]], [0]], 1),
        ([["a"], [["F16", [1]]], [0]], 2),
        ([["a", "b"], [["F16", [1]]], [0]], 1),
        ([["b", "a"], [["F16", [1]]], [0, 0]], 2),
        ([["a", "a"], [["F16", [1]]], [0, 0]], 2),
    ],
)
def test_columns_that_are_none_are_refused(columns: object, count: int) -> None:
    with pytest.raises(CorruptFile, match="table of tensor digests"):
        unpack(_with_text(json.dumps(columns).encode(), count))


def test_a_table_of_a_newer_version_is_refused() -> None:
    with pytest.raises(CorruptFile, match="version 5"):
        unpack(b"\5" + pack(listed({}))[1:])


def test_a_table_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("converters.tensor_table.MAX_TEXT", 1000)
    with pytest.raises(CorruptFile, match="too much"):
        unpack(_with_text(b"[" + b" " * 100_000 + b"]", 0))
