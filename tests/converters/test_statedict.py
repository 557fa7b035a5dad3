"""The lazy state dict: recipes for bytes, never the bytes themselves, until `read`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.bytesource import MemoryBytes
from converters.dtypes import BY_LABEL, DType
from converters.statedict import Extent, LazyTensor, StateDict


def stored(data: bytes, *shape: int, pieces: int = 1) -> LazyTensor:
    """A U8 tensor over `data`, cut into several extents of one source."""
    source = MemoryBytes(b"??" + data)
    step = max(1, -(-len(data) // pieces))
    cuts = [(at, min(step, len(data) - at)) for at in range(0, len(data), step)]
    extents = tuple(Extent(source, 2 + at, count) for at, count in cuts)
    return LazyTensor(DType.U8, shape, extents, "test")


def forbidden() -> bytes:
    raise AssertionError("a header-only operation read tensor data")


UNREAD = LazyTensor(DType.F32, (2, 3), forbidden, "never read")


def test_extents_are_read_in_their_order() -> None:
    assert stored(bytes(range(10)), 10, pieces=3).read() == bytes(range(10))


def test_a_computed_tensor_is_computed_on_each_read() -> None:
    calls: list[int] = []

    def compute() -> bytes:
        calls.append(1)
        return b"\x00" * 24

    tensor = LazyTensor(DType.F32, (2, 3), compute, "computed")
    assert tensor.extents is None
    assert not calls
    tensor.read()
    tensor.read()
    assert len(calls) == 2


@given(
    rows=st.integers(1, 9),
    width=st.integers(1, 7),
    pieces=st.integers(1, 5),
    cut=st.tuples(st.integers(0, 9), st.integers(0, 9)),
)
def test_rows_of_a_stored_tensor_are_the_same_rows_of_its_bytes(
    rows: int, width: int, pieces: int, cut: tuple[int, int]
) -> None:
    start, stop = sorted(min(edge, rows) for edge in cut)
    data = bytes(range(rows * width))
    tensor = stored(data, rows, width, pieces=pieces).slice0(start, stop)
    assert tensor.extents is not None, "a slice of stored bytes must stay stored"
    assert tensor.shape == (stop - start, width)
    assert bytes(tensor.read()) == data[start * width : stop * width]


def test_rows_of_a_computed_tensor_are_cut_from_its_bytes() -> None:
    tensor = LazyTensor(DType.U8, (4, 2), lambda: bytes(range(8)), "computed")
    assert bytes(tensor.slice0(1, 3).read()) == bytes([2, 3, 4, 5])


@pytest.mark.parametrize(("start", "stop"), [(-1, 1), (2, 1), (0, 5)])
def test_rows_outside_the_tensor_are_refused(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="rows"):
        stored(bytes(4), 4).slice0(start, stop)


def test_a_reshape_keeps_the_bytes_and_refuses_another_size() -> None:
    tensor = stored(bytes(range(6)), 6)
    assert tensor.reshape((2, 3)).read() == tensor.read()
    with pytest.raises(ValueError, match="cannot be seen as"):
        tensor.reshape((4,))


def test_operations_on_a_state_dict_read_nothing() -> None:
    state = StateDict({"a": UNREAD, "b": UNREAD}, {"format": "pt"}, {"epoch": 3})
    changed = (
        state.select(lambda name: name == "a")
        .rename(lambda name: f"x.{name}")
        .map(lambda _, tensor: tensor.reshape((3, 2)))
        .overlay({"c": UNREAD})
        .with_metadata({"title": "t"})
    )
    assert list(changed) == ["x.a", "c"]
    assert changed["x.a"].shape == (3, 2)
    assert changed.metadata == {"title": "t"}
    assert changed.extras == {"epoch": 3}
    assert list(state) == ["a", "b"], "the original stays as it was"
    assert state.nbytes == 48
    assert state.parameters == 12


def test_a_rename_onto_the_same_name_is_refused() -> None:
    with pytest.raises(ValueError, match="two tensors"):
        StateDict({"a": UNREAD, "b": UNREAD}).rename(lambda _: "same")


def test_every_dtype_is_found_by_its_label_and_ranked_in_declaration_order() -> None:
    assert BY_LABEL["BF16"] is DType.BF16
    assert sorted(DType, key=lambda dtype: dtype.rank) == list(DType)
    assert [dtype.label for dtype in DType if not dtype.is_float] == [
        "BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "C64", "I64", "U64",
    ]  # fmt: skip


def test_elements_that_do_not_fill_a_byte_are_refused() -> None:
    assert DType.F4.nbytes(4) == 2
    with pytest.raises(ValueError, match="byte boundary"):
        DType.F4.nbytes(3)
