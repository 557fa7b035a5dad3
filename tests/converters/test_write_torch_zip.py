"""The writer of .ckpt files: what torch itself reads, with torch's strictest loader."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from helpers.sd1 import state_dict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters.bytesource import MemoryBytes
from converters.containers import Container, open_model
from converters.dtypes import DType
from converters.errors import DiskFull, TargetExists, TruncatedFile, UnsupportedFile
from converters.pickles.verdict import Verdict
from converters.statedict import Extent, LazyTensor, StateDict
from converters.writers import atomic
from converters.writers.torch_zip import write_torch_zip

TORCH = {
    DType.F64: torch.float64,
    DType.F32: torch.float32,
    DType.F16: torch.float16,
    DType.BF16: torch.bfloat16,
    DType.I64: torch.int64,
    DType.I32: torch.int32,
    DType.I16: torch.int16,
    DType.I8: torch.int8,
    DType.U8: torch.uint8,
    DType.BOOL: torch.bool,
}
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


def stored(dtype: DType, shape: tuple[int, ...], data: bytes) -> LazyTensor:
    return LazyTensor(dtype, shape, (Extent(MemoryBytes(data), 0, len(data)),), "t")


@st.composite
def state_dicts(draw: st.DrawFn) -> tuple[StateDict, dict[str, bytes]]:
    tensors, contents = {}, {}
    for name in draw(st.lists(NAMES, unique=True, max_size=5)):
        dtype = draw(st.sampled_from(list(TORCH)))
        shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
        size = LazyTensor(dtype, shape, (), "").nbytes
        data = draw(st.binary(min_size=size, max_size=size))
        if dtype is DType.BOOL:
            data = bytes(byte & 1 for byte in data)
        contents[name] = data
        tensors[name] = stored(dtype, shape, data)
        if draw(st.booleans()):
            tensors[name] = LazyTensor(dtype, shape, lambda data=data: data, "computed")
    return StateDict(tensors), contents


@given(state_dicts())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_torch_reads_what_was_written_with_its_strictest_loader(
    tmp_path: Path, drawn: tuple[StateDict, dict[str, bytes]]
) -> None:
    state, contents = drawn
    target = tmp_path / "x.ckpt"
    size = write_torch_zip({"state_dict": dict(state)}, target, overwrite=True)
    assert size == target.stat().st_size
    loaded = torch.load(target, weights_only=True)["state_dict"]
    assert list(loaded) == list(state)
    for name, tensor in loaded.items():
        assert tensor.dtype is TORCH[state[name].dtype]
        assert tuple(tensor.shape) == state[name].shape
        assert bytes(tensor.reshape(-1).view(torch.uint8).tolist()) == contents[name]


@given(state_dicts())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_our_reader_gives_the_same_tensors(
    tmp_path: Path, drawn: tuple[StateDict, dict[str, bytes]]
) -> None:
    state, contents = drawn
    target = tmp_path / "x.ckpt"
    write_torch_zip({"state_dict": dict(state)}, target, overwrite=True)
    model = open_model(target)
    assert model.container is Container.TORCH_ZIP
    assert model.safety.verdict is Verdict.SAFE
    assert {n: bytes(t.read()) for n, t in model.state_dict.items()} == contents


def test_only_records_that_old_loaders_let_pass_are_written_aligned_and_unpacked(
    tmp_path: Path,
) -> None:
    shapes = {"a": (3,), "b": (2, 2), "c": ()}
    empty = state_dict(shapes)
    state = StateDict({n: stored(t.dtype, t.shape, bytes(t.nbytes)) for n, t in empty.items()})
    target = tmp_path / "x.ckpt"
    write_torch_zip({"state_dict": dict(state)}, target)
    with zipfile.ZipFile(target) as archive:
        entries = archive.infolist()
        assert archive.testzip() is None
        raw = target.read_bytes()
    names = ["data.pkl", "byteorder", "data/0", "data/1", "data/2", "version"]
    assert [entry.filename for entry in entries] == [f"archive/{name}" for name in names]
    for entry in entries:
        assert entry.compress_type == zipfile.ZIP_STORED
        lengths = raw[entry.header_offset + 26 : entry.header_offset + 30]
        skip = sum(int.from_bytes(lengths[at : at + 2], "little") for at in (0, 2))
        assert (entry.header_offset + 30 + skip) % 64 == 0, entry.filename


def test_element_types_without_a_storage_are_refused_by_name(tmp_path: Path) -> None:
    state = StateDict({"w": stored(DType.F8_E4M3, (2,), bytes(2))})
    with pytest.raises(UnsupportedFile, match="t: F8_E4M3 cannot be stored"):
        write_torch_zip(dict(state), tmp_path / "x.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    target = tmp_path / "x.ckpt"
    target.write_bytes(b"kept")
    with pytest.raises(TargetExists):
        write_torch_zip({}, target)
    assert target.read_bytes() == b"kept"


def test_a_source_that_ends_early_leaves_nothing(tmp_path: Path) -> None:
    short = LazyTensor(DType.F32, (2,), (Extent(MemoryBytes(b"1234"), 0, 8),), "t")
    with pytest.raises(TruncatedFile):
        write_torch_zip({"t": short}, tmp_path / "x.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_seen_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "free_bytes", lambda _: (1, 7))
    state = StateDict({"t": stored(DType.F32, (2,), bytes(8))})
    with pytest.raises(DiskFull, match="needs 8 bytes, the disk has 7 left"):
        write_torch_zip(dict(state), tmp_path / "x.ckpt")
    assert list(tmp_path.iterdir()) == []
