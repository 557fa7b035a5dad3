"""Torch zip files that another tool packed again: read as any, bounded when they lie."""

from __future__ import annotations

import io
import zipfile

import pytest
import torch
from helpers.examples import examples
from helpers.pickles import dict_of, pickled, tensor, torch_zip
from hypothesis import given
from hypothesis import strategies as st

from converters.bytesource import MemoryBytes
from converters.containers import Model, open_model
from converters.errors import CorruptFile, FileProblem, UnsupportedFile

ONE = pickled(dict_of({"w": tensor("0", (4,), (1,), numel=4)}))


def opened(data: bytes) -> Model:
    return open_model(MemoryBytes(data, "x.ckpt"))


def packed(value: object, method: int) -> bytes:
    plain, target = io.BytesIO(), io.BytesIO()
    torch.save(value, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(target, "w", method) as archive:
        for entry in source.namelist():
            archive.writestr(entry, source.read(entry))
    return target.getvalue()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 40))
@examples(50)
def test_packed_storages_and_their_views_are_read_equal(numbers: list[int], start: int) -> None:
    whole = torch.tensor(numbers, dtype=torch.float16)
    model = opened(packed({"whole": whole, "part": whole[start:]}, zipfile.ZIP_DEFLATED))
    assert bytes(model.state_dict["whole"].read()) == whole.numpy().tobytes()
    assert bytes(model.state_dict["part"].read()) == whole[start:].numpy().tobytes()
    assert all(len(lazy.sources) <= 1 for lazy in model.state_dict.values())


def test_a_packed_file_names_its_source_so_that_a_change_is_noticed() -> None:
    model = opened(packed({"w": torch.ones(3)}, zipfile.ZIP_DEFLATED))
    assert [source.name for source in model.state_dict["w"].sources] == ["x.ckpt"]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_packings_are_refused_by_name(method: int) -> None:
    with pytest.raises(UnsupportedFile, match=f"packed by method {method}"):
        opened(packed({"w": torch.ones(3)}, method))


def test_a_storage_that_unpacks_to_other_bytes_is_refused_when_read() -> None:
    data = torch_zip(ONE, {"0": bytes(range(16))}, packing=zipfile.ZIP_DEFLATED)
    begin = data.index(b"data/0") + len("data/0")
    lazy = opened(data[: begin + 6] + b"\x55" + data[begin + 7 :]).state_dict["w"]
    with pytest.raises(CorruptFile, match="data/0"):
        lazy.read()


def test_an_archive_that_claims_to_unpack_to_far_more_than_a_model_is_refused() -> None:
    data = torch_zip(ONE, {"0": bytes(64 << 20)}, packing=zipfile.ZIP_DEFLATED)
    with pytest.raises(CorruptFile, match=f"its {len(data)} bytes claim to unpack to 671"):
        opened(data)


def test_a_tensor_of_zeros_may_shrink_as_much_as_it_can() -> None:
    zeros = torch.zeros(1 << 20)
    lazy = opened(packed({"w": zeros}, zipfile.ZIP_DEFLATED)).state_dict["w"]
    assert bytes(lazy.read()) == bytes(4 << 20)


@given(st.data())
@examples(300)
def test_a_mutated_packed_file_gives_an_error_of_ours_or_tensors_of_the_right_size(
    drawn: st.DataObject,
) -> None:
    data = bytearray(packed({"w": torch.arange(50.0), "v": torch.ones(3)}, zipfile.ZIP_DEFLATED))
    for _ in range(drawn.draw(st.integers(1, 4))):
        data[drawn.draw(st.integers(0, len(data) - 1))] = drawn.draw(st.integers(0, 255))
    try:
        for lazy in opened(bytes(data)).state_dict.values():
            assert len(memoryview(lazy.read())) == lazy.nbytes
    except FileProblem:
        pass
