"""What is not finite, found by its bits exactly where torch finds it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from converters import finite
from converters.bytesource import MemoryBytes
from converters.compute import buffer, torch_dtype
from converters.dtypes import DType
from converters.statedict import Extent, LazyTensor, StateDict

TYPES = [DType.F64, DType.F32, DType.F16, DType.BF16, DType.F8_E4M3, DType.F8_E5M2]


@given(st.binary(min_size=8, max_size=64).filter(lambda b: len(b) % 8 == 0), st.sampled_from(TYPES))
def test_any_bits_are_judged_as_torch_judges_them(data: bytes, dtype: DType) -> None:
    values = torch.frombuffer(bytearray(data), dtype=torch_dtype(dtype))
    extent = (Extent(MemoryBytes(data), 0, len(data)),)
    state = StateDict({"w": LazyTensor(dtype, (len(values),), extent, "w")})
    expected = [] if values.double().isfinite().all() else ["w"]
    assert list(finite.non_finite(state)) == expected


def test_large_tensors_are_looked_through_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finite, "PIECE", 3)
    values = torch.zeros(10)
    values[9] = torch.nan
    data = bytes(buffer(values))
    extent = (Extent(MemoryBytes(data), 0, len(data)),)
    state = StateDict({"w": LazyTensor(DType.F32, (10,), extent, "w")})
    assert list(finite.non_finite(state)) == ["w"]


def test_whole_numbers_and_empty_tensors_are_finite() -> None:
    ones = LazyTensor(DType.I64, (1,), (Extent(MemoryBytes(b"\xff" * 8), 0, 8),), "i")
    assert (
        list(finite.non_finite(StateDict({"i": ones, "e": LazyTensor(DType.F32, (0,), (), "e")})))
        == []
    )
