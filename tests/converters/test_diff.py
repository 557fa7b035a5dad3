"""Differences between two models, named tensor by tensor."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from converters.bytesource import MemoryBytes
from converters.diff import are_comparable, differences, digest_differences
from converters.digest import weigh
from converters.dtypes import DType
from converters.statedict import Extent, LazyTensor, StateDict
from converters.tensor_table import pack, unpack
from converters.weights import TensorDigests


def stored(data: bytes, dtype: DType = DType.U8) -> LazyTensor:
    shape = (len(data) * 8 // dtype.bits,)
    return LazyTensor(dtype, shape, (Extent(MemoryBytes(data), 0, len(data)),), "t")


def test_equal_models_do_not_differ_however_their_bytes_are_kept() -> None:
    computed = LazyTensor(DType.U8, (4,), lambda: memoryview(b"abcd"), "t")
    assert not list(differences(StateDict({"w": stored(b"abcd")}), StateDict({"w": computed})))


def test_every_way_to_differ_is_named() -> None:
    left = StateDict(
        {
            "gone": stored(b"a"),
            "kind": stored(b"abcd"),
            "same": stored(b"x"),
            "value": stored(b"ab"),
        }
    )
    right = StateDict(
        {
            "kind": stored(b"abcd", DType.F16),
            "new": stored(b"a"),
            "same": stored(b"x"),
            "value": stored(b"ac"),
        }
    )
    assert [(each.name, each.how) for each in differences(left, right)] == [
        ("gone", "is only in the first"),
        ("kind", "is U8 [4] and F16 [2]"),
        ("new", "is only in the second"),
        ("value", "has other values"),
    ]


states = st.dictionaries(
    st.sampled_from("abcd"),
    st.builds(
        stored,
        st.sampled_from([b"ab", b"ac", b"abcd", b"a" * 20, b"ab" * 10]),
        st.sampled_from([DType.U8, DType.F16]),
    ),
).map(StateDict)


@given(left=states, right=states)
def test_digests_tell_the_same_differences_as_the_tensors(
    left: StateDict, right: StateDict
) -> None:
    ours, theirs = (weigh(state, {}).tensors for state in (left, right))
    assert list(digest_differences(ours, theirs)) == list(differences(left, right))


def test_a_checksum_says_nothing_of_a_digest() -> None:
    small, large = stored(b"a" * 20), stored(bytes(1 << 20))
    adapter = weigh(StateDict({"w": small}), {}).tensors
    checkpoint = weigh(StateDict({"w": small, "large": large}), {}).tensors
    assert are_comparable(adapter, adapter)
    assert are_comparable(checkpoint, checkpoint)
    older = TensorDigests(checkpoint.listing, checkpoint.digests)
    assert not are_comparable(adapter, older)
    assert not are_comparable(older, adapter)
    other = weigh(StateDict({"w": stored(b"a" * 21)}), {}).tensors
    assert are_comparable(other, checkpoint), "of other shapes nothing more is asked"


def test_of_models_of_both_rules_small_tensors_have_checksums_and_large_ones_digests() -> None:
    small, large = stored(b"a" * 20), stored(bytes(1 << 20))
    tiny = {f"tiny{number}": stored(b"b") for number in range(100)}
    adapter = weigh(StateDict({"w": small, "large": large, **tiny}), {}).tensors
    checkpoint = weigh(StateDict({"w": stored(b"c" * 20), "large": large}), {}).tensors
    assert len(adapter["w"].digest) != len(checkpoint["w"].digest)
    for pair in ((adapter, checkpoint), (checkpoint, adapter)):
        assert are_comparable(*(unpack(pack(tensors)) for tensors in pair))
        told = digest_differences(*(unpack(pack(tensors)) for tensors in pair))
        assert [each.name for each in told if each.how == "has other values"] == ["w"]
