"""Models in several files: the index, its shards, and indexes that lead astray."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.inspecting import inspected_in_a_process
from helpers.pickles import call_name, dict_of, pickled, tensor, text, torch_zip
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from converters.bytesource import MemoryBytes
from converters.containers import Container, open_model
from converters.errors import (
    CorruptFile,
    FileMissing,
    FileProblem,
    FileUnreadable,
    TruncatedFile,
    UnsupportedFile,
)
from converters.pickles.verdict import Verdict

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
PLACES = {"a": FIRST, "b": SECOND, "c": FIRST}


def write_index(folder: Path, places: object, name: str = INDEX) -> Path:
    path = folder / name
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of three tensors in two shards; gives the index."""
    parts = {"a": torch.arange(3.0), "c": torch.arange(4)}
    save_file(parts, tmp_path / FIRST, {"format": "pt", "part": "1"})
    save_file({"b": torch.ones(2, 2)}, tmp_path / SECOND, {"format": "pt", "part": "2"})
    return write_index(tmp_path, PLACES)


def test_the_tensors_of_all_shards_are_one_state_dict(model: Path) -> None:
    found = open_model(model)
    assert found.container is Container.SHARDED_SAFETENSORS
    assert list(found.state_dict) == ["a", "b", "c"]
    assert bytes(found.state_dict["a"].read()) == torch.arange(3.0).numpy().tobytes()
    assert bytes(found.state_dict["b"].read()) == torch.ones(2, 2).numpy().tobytes()
    assert all(lazy.extents is not None for lazy in found.state_dict.values())
    assert found.state_dict.metadata == {"format": "pt", "part": "1"}
    assert found.nbytes == sum(path.stat().st_size for path in model.parent.iterdir())
    assert found.path == str(model)
    assert found.safety.verdict is Verdict.SAFE
    assert found.problems == ()


def test_a_folder_means_the_only_index_in_it(model: Path) -> None:
    assert set(open_model(model.parent).state_dict) == {"a", "b", "c"}
    write_index(model.parent, PLACES, "model.safetensors.index.fp16.json")
    with pytest.raises(FileUnreadable, match="several indexes"):
        open_model(model.parent)


def test_a_folder_without_an_index_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileUnreadable, match="is a folder, not a file"):
        open_model(tmp_path)


def test_shards_of_torch_are_read_and_the_worst_verdict_counts(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "1.bin")
    torch.save({"b": torch.ones(3)}, tmp_path / "2.bin", _use_new_zipfile_serialization=False)
    evil = dict_of({"c": tensor("0", (2,), (1,), numel=2), "x": call_name("os.system", text("ls"))})
    (tmp_path / "3.bin").write_bytes(torch_zip(pickled(evil), {"0": bytes(8)}))
    places = {"a": "1.bin", "b": "2.bin"}
    with pytest.raises(CorruptFile, match="not all of one format"):
        open_model(write_index(tmp_path, places, "pytorch_model.bin.index.json"))
    places = {"a": "1.bin", "c": "3.bin"}
    model = open_model(write_index(tmp_path, places, "pytorch_model.bin.index.json"))
    assert model.container is Container.SHARDED_TORCH
    assert set(model.state_dict) == {"a", "c"}
    assert model.safety.verdict is Verdict.DANGEROUS
    assert model.safety.findings[0].startswith("3.bin: os.system")


def test_a_missing_shard_is_named(model: Path) -> None:
    (model.parent / SECOND).unlink()
    with pytest.raises(FileMissing) as caught:
        open_model(model)
    assert caught.value.path == str(model.parent / SECOND)
    assert INDEX in caught.value.cause


def test_a_missing_tensor_is_named(model: Path) -> None:
    write_index(model.parent, {**PLACES, "d": SECOND})
    with pytest.raises(CorruptFile, match=f'places tensor "d" in "{SECOND}", which lacks it'):
        open_model(model)


def test_tensors_that_the_index_does_not_name_are_left_out_and_counted(model: Path) -> None:
    write_index(model.parent, {"a": FIRST})
    found = open_model(model)
    assert set(found.state_dict) == {"a"}
    assert found.problems == (f"{FIRST}: 1 tensors are not in the index and were left out",)


def test_a_broken_shard_is_named(model: Path) -> None:
    shard = model.parent / SECOND
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(TruncatedFile) as caught:
        open_model(model)
    assert caught.value.path == str(shard)


@pytest.mark.parametrize(
    "file",
    ["../x.safetensors", "/etc/passwd", "a/../../x", "C:\\x", "a\\b", "\0", "", "..", "a\nb"],
)
def test_an_index_cannot_lead_out_of_its_folder(file: str, model: Path) -> None:
    write_index(model.parent, {"a": file})
    with pytest.raises(CorruptFile, match="which is no file in its folder"):
        open_model(model)


def test_an_index_cannot_name_itself_or_other_things(model: Path) -> None:
    write_index(model.parent, {"a": INDEX})
    with pytest.raises(UnsupportedFile, match="not a part of a model"):
        open_model(model)
    write_index(model.parent, {"a": "folder"})
    (model.parent / "folder").mkdir()
    with pytest.raises(FileUnreadable):
        open_model(model)
    write_index(model.parent, {str(n): f"{n}.safetensors" for n in range(600)})
    with pytest.raises(CorruptFile, match="more than 512 files"):
        open_model(model)


@pytest.mark.parametrize("places", [[], {"a": 1}, None, "x"])
def test_a_weight_map_of_another_form_is_refused(places: object, model: Path) -> None:
    write_index(model.parent, places)
    with pytest.raises(CorruptFile, match="not an object of file names"):
        open_model(model)


def test_json_that_is_no_index_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFile, match="JSON text"):
        open_model(MemoryBytes(b'{"a": 1}', "config.json"))
    with pytest.raises(CorruptFile, match="its index is not JSON"):
        open_model(MemoryBytes(b'{"weight_map": {', "x.index.json"))
    with pytest.raises(CorruptFile, match="longer than 4 MB"):
        open_model(MemoryBytes(b'{"weight_map": {' + b" " * (5 << 20), "x.index.json"))
    with pytest.raises(UnsupportedFile, match="only read where they lie"):
        open_model(MemoryBytes(b'{"weight_map": {"a": "b"}}', "x.index.json"))


@given(drawn=st.data())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_mutated_index_or_shard_gives_an_error_of_ours_or_tensors_of_the_right_size(
    tmp_path: Path, drawn: st.DataObject
) -> None:
    (tmp_path / FIRST).write_bytes(save({"a": torch.arange(3.0), "c": torch.arange(4)}))
    (tmp_path / SECOND).write_bytes(save({"b": torch.ones(2, 2)}))
    index = write_index(tmp_path, PLACES)
    path = drawn.draw(st.sampled_from([index, index, tmp_path / FIRST]))
    data = bytearray(path.read_bytes())
    data[drawn.draw(st.integers(0, len(data) - 1))] = drawn.draw(st.integers(0, 255))
    path.write_bytes(data[: drawn.draw(st.none() | st.integers(0, len(data)))])
    try:
        for lazy in open_model(index).state_dict.values():
            assert len(memoryview(lazy.read())) == lazy.nbytes
    except FileProblem:
        pass


def test_an_index_is_inspected_without_torch_or_numpy(model: Path) -> None:
    found = inspected_in_a_process(model)
    assert (found["container"], found["tensors"]) == ("sharded-safetensors", 3)
