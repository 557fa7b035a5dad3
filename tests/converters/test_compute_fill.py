"""Values written into memory that is there, and files seen as memory."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from converters import compute
from converters.bytesource import FileBytes, MemoryBytes
from converters.dtypes import DType
from converters.merge.products import Stack, with_products
from converters.statedict import Extent, LazyTensor, concat0

VALUES = np.linspace(-3, 3, 48, dtype=np.float32).astype(np.float16).reshape(8, 6)


def stored(path: Path, offset: int = 8) -> LazyTensor:
    path.write_bytes(bytes(offset) + VALUES.tobytes())
    extent = Extent(FileBytes(path), offset, VALUES.nbytes)
    return LazyTensor(DType.F16, (8, 6), (extent,), f"{path}: w")


def in_pieces(weight: LazyTensor) -> LazyTensor:
    stack = Stack((2, 7), torch.ones(5, 1), torch.arange(6.0)[None])
    return with_products(
        weight, DType.F16, lambda: nullcontext([stack]), lambda _: None, [weight], "sum", "cpu"
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_filling_gives_the_values_of_every_kind_of_source(
    tmp_path: Path, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "_PIECE_BYTES", 14)  # stored tensors are read in pieces, too
    monkeypatch.setattr("converters.merge.products._PIECE", 13)
    weight = stored(tmp_path / "w")
    sources = {
        "stored": weight,
        "in two extents": concat0([weight.slice0(0, 3), weight.slice0(3, 8)]),
        "computed": compute.lazy(DType.F16, (8, 6), lambda: torch.ones(8, 6) / 3, "third"),
        "in pieces": in_pieces(weight),
        "a function of bytes": LazyTensor(DType.F16, (8, 6), VALUES.tobytes, "bytes"),
        "a scalar": LazyTensor(DType.F16, (), VALUES[:1, :1].tobytes, "scalar"),
        "nothing": LazyTensor(DType.F16, (0, 6), bytes, "empty"),
    }
    for name, tensor in sources.items():
        target = torch.full(tensor.shape, torch.nan, dtype=dtype)
        compute.fill(target, tensor)
        assert torch.equal(target, compute.value(tensor).to(dtype)), name


def test_where_no_memory_can_be_pinned_other_memory_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no more")

    monkeypatch.setattr(torch, "empty", refuse)
    weight = stored(tmp_path / "w")
    assert torch.equal(compute.passing_value(weight, pinned=True), compute.value(weight))


def test_a_file_seen_as_memory_is_not_changed_with_it(tmp_path: Path) -> None:
    weight = stored(tmp_path / "w")
    seen = compute.mapped(weight)
    assert seen is not None
    assert torch.equal(seen, torch.from_numpy(VALUES))
    seen.zero_()
    assert torch.equal(compute.value(weight), torch.from_numpy(VALUES))


def test_what_cannot_be_seen_as_memory_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = stored(tmp_path / "w")
    in_memory = Extent(MemoryBytes(VALUES.tobytes()), 0, VALUES.nbytes)
    assert compute.mapped(stored(tmp_path / "odd", offset=7)) is None
    assert compute.mapped(concat0([weight.slice0(0, 3), weight.slice0(3, 8)])) is None
    assert compute.mapped(LazyTensor(DType.F16, (8, 6), (in_memory,), "memory")) is None
    assert compute.mapped(LazyTensor(DType.F16, (8, 6), VALUES.tobytes, "computed")) is None
    with monkeypatch.context() as windows:
        windows.setattr("sys.platform", "win32")
        assert compute.mapped(weight) is None
    (tmp_path / "cut").write_bytes(VALUES.tobytes()[:-1])
    beyond = Extent(FileBytes(tmp_path / "cut"), 0, VALUES.nbytes)
    assert compute.mapped(LazyTensor(DType.F16, (8, 6), (beyond,), "cut")) is None
