"""Casts to narrow types: what does not fit is kept, clamped or refused, and losses are told."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from converters.bytesource import MemoryBytes
from converters.compute import buffer, torch_dtype, value
from converters.dtypes import DType
from converters.errors import Overflow
from converters.statedict import Extent, LazyTensor, StateDict
from converters.transform import cast as module
from converters.transform.cast import CastLog, CastLoss, cast, overflowing
from converters.writers.safetensors import write_safetensors

NARROW = {
    DType.F16: torch.float16,
    DType.BF16: torch.bfloat16,
    DType.F8_E4M3: torch.float8_e4m3fn,
    DType.F8_E5M2: torch.float8_e5m2,
}


def stored(*values: float) -> LazyTensor:
    """A single-precision tensor of these values."""
    data = bytes(buffer(torch.tensor(values)))
    shape = (len(values),)
    return LazyTensor(DType.F32, shape, (Extent(MemoryBytes(data), 0, len(data)),), "t")


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=6),
    st.sampled_from(list(NARROW)),
)
def test_clamped_values_are_torchs_where_they_fit_and_the_largest_where_they_do_not(
    values: list[float], dtype: DType
) -> None:
    state = StateDict({"w": stored(*values)})
    got = value(cast(state, dtype, clamp=True)["w"]).double()
    exact = torch.tensor(values).double()
    fits = exact.abs() < dtype.overflow
    plain = torch.tensor(values).to(NARROW[dtype]).double()
    assert torch.equal(got, torch.where(fits, plain, exact.sign() * dtype.largest))
    assert (overflowing(state, dtype) == {"w"}) == (not fits.all())


def test_the_largest_values_of_every_type_are_torchs() -> None:
    others = (DType.F8_E4M3FNUZ, DType.F8_E5M2FNUZ, DType.F32, DType.F64)
    for dtype in (*NARROW, *others):
        assert dtype.largest == torch.finfo(torch_dtype(dtype)).max, dtype


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16, DType.F8_E5M2])
def test_numbers_overflow_where_torch_rounds_to_infinity(dtype: DType) -> None:
    edge = torch.tensor([dtype.overflow])
    below = torch.nextafter(edge, torch.zeros(1))
    assert edge.to(NARROW[dtype]).double().isinf().all()
    assert below.to(NARROW[dtype]).double().item() == dtype.largest


_PRECISION = {DType.F16: 11, DType.BF16: 8, DType.F8_E4M3: 4, DType.F8_E5M2: 3}
"""Bits of a normal number, with the leading one."""


@given(
    st.sampled_from(sorted(_PRECISION, key=lambda dtype: dtype.label)),
    st.integers(0, 2**20),
    st.integers(-4, 4),
    st.sampled_from([-1, 0, 1]),
    st.integers(30, 41),
)
def test_doubles_are_rounded_once(
    dtype: DType, significand: int, exponent: int, aside: int, bit: int
) -> None:
    """Also just beside the middle of two numbers, where float32 cannot tell the side."""
    units = 2 ** (_PRECISION[dtype] - 1) + significand % 2 ** (_PRECISION[dtype] - 1)
    middle = Fraction(2 * units + 1, 2) + aside * Fraction(1, 2**bit)
    wanted = Fraction(round(middle)) * Fraction(2) ** exponent  # to even where it is the middle
    number = float(middle * Fraction(2) ** exponent)
    assert Fraction(number) == middle * Fraction(2) ** exponent
    data = struct.pack("<2d", number, -number)
    tensor = LazyTensor(DType.F64, (2,), (Extent(MemoryBytes(data), 0, 16),), "t")
    got = value(cast(StateDict({"w": tensor}), dtype)["w"]).double().tolist()
    assert got == [float(wanted), -float(wanted)]


@given(st.lists(st.floats(width=64), min_size=1, max_size=8))
def test_all_doubles_become_the_halves_of_numpy(values: list[float]) -> None:
    data = np.array(values).tobytes()
    tensor = LazyTensor(DType.F64, (len(values),), (Extent(MemoryBytes(data), 0, len(data)),), "t")
    got = value(cast(StateDict({"w": tensor}), DType.F16, clamp=True)["w"]).numpy()
    exact = np.array(values)
    held = np.where(np.isfinite(exact), exact.clip(-65504, 65504), exact).astype(np.float16)
    assert np.array_equal(got, held, equal_nan=True)
    assert np.array_equal(np.signbit(got), np.signbit(held))


def test_an_exempt_tensor_stays_the_bytes_it_is() -> None:
    state = StateDict({"large": stored(1e6), "small": stored(1.0)})
    assert overflowing(state, DType.F16) == {"large"}
    changed = cast(state, DType.F16, exempt={"large"})
    assert changed["large"] is state["large"]
    assert changed["small"].dtype is DType.F16


def test_without_clamping_the_tensor_is_named() -> None:
    with pytest.raises(Overflow, match="large: 1 values are too large for F8_E4M3"):
        cast(StateDict({"large": stored(500.0, 1.0)}), DType.F8_E4M3)["large"].read()


def test_what_was_lost_is_in_the_log_and_nothing_else() -> None:
    nan, infinity = float("nan"), float("inf")
    state = StateDict(
        {
            "exact": stored(1.0, 0.0, -2.5),
            "tiny": stored(1e-9, 1e-9, 0.0, 1.0),
            "large": stored(1e6, -1e6, 1.0),
            "broken": stored(nan, infinity),
            "empty": stored(),
        }
    )
    log = CastLog()
    changed = cast(state, DType.F16, clamp=True, log=log)
    results = {name: value(tensor) for name, tensor in changed.items()}
    assert log.losses == {
        "tiny": CastLoss("tiny", 0, 2, 0),
        "large": CastLoss("large", 2, 0, 0),
        "broken": CastLoss("broken", 0, 0, 1),
    }
    assert results["large"].tolist() == [65504.0, -65504.0, 1.0]
    assert results["broken"].isnan().tolist() == [True, False]
    assert results["broken"].isinf().tolist() == [False, True]


def test_a_large_tensor_is_cast_in_pieces_that_give_the_same_file_and_the_same_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE", 5)
    values = [1e9, 1e-30, 2.0, float("nan"), 1.0, 1e9, 3.0, 1e-30, 0.0, 5.0, 6.0, 1e9, 7.0]
    state = StateDict({"w": replace(stored(*values), shape=(13, 1))})
    log = CastLog()
    narrow = cast(state, DType.F16, clamp=True, log=log)
    assert [piece.numel for piece in narrow["w"].pieces] == [5, 5, 3]
    target = write_safetensors(narrow, tmp_path / "x.safetensors", with_hashes=False).path
    expected = torch.tensor(values).clamp(-65504, 65504).half().reshape(13, 1)
    assert torch.equal(load_file(target)["w"].nan_to_num(), expected.nan_to_num())
    assert log.losses == {"w": CastLoss("w", 3, 2, 1)}
    assert bytes(narrow["w"].read()) == bytes(buffer(expected))
    assert overflowing(state, DType.F16) == {"w"}
    assert narrow["w"].reshape((13,)).pieces
    assert not narrow["w"].slice0(0, 2).pieces


def test_a_computed_tensor_is_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE", 2)
    asked: list[int] = []

    def compute() -> bytes:
        asked.append(1)
        return bytes(buffer(torch.arange(6.0)))

    state = StateDict({"w": LazyTensor(DType.F32, (6,), compute, "t")})
    target = tmp_path / "x.safetensors"
    write_safetensors(cast(state, DType.BF16), target, with_hashes=False)
    assert torch.equal(load_file(target)["w"], torch.arange(6.0).bfloat16())
    assert asked == [1]
