"""The legacy torch reader against torch.load(weights_only=True), and hostile and broken files."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import pytest
import torch
from helpers.examples import examples
from helpers.inspecting import inspected_in_a_process
from helpers.pickles import (
    call_name,
    dict_of,
    hostile_bodies,
    name,
    number,
    pickled,
    text,
    tuple_of,
)
from helpers.verdicts import safety_of
from hypothesis import given
from hypothesis import strategies as st

from converters.bytesource import MemoryBytes
from converters.containers import Container, Inspected, Model, open_model
from converters.errors import CorruptFile, FileProblem, TruncatedFile
from converters.pickles.verdict import Verdict

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64,
]  # fmt: skip


def saved(value: object, protocol: int = 2) -> bytes:
    target = io.BytesIO()
    torch.save(value, target, _use_new_zipfile_serialization=False, pickle_protocol=protocol)
    return target.getvalue()


def opened(data: bytes) -> Model:
    return open_model(MemoryBytes(data, "x.pt"))


def bytes_of(value: torch.Tensor) -> bytes:
    return bytes(value.detach().clone(memory_format=torch.contiguous_format).untyped_storage())


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for key in draw(st.lists(st.text("abcxyz.", min_size=1, max_size=6), max_size=5, unique=True)):
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        dtype = draw(st.sampled_from(DTYPES))
        value = torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)
        same = [other for other in found.values() if other.dtype == dtype]
        if same and draw(st.booleans()):
            value = draw(st.sampled_from(same))
        if value.dim() and draw(st.booleans()):
            value = draw(st.sampled_from([value.transpose(0, -1), value[..., 1:], value[::2]]))
        found[key] = value
    return found


@given(tensors())
@examples(60)
def test_tensors_are_read_equal_to_torch(value: dict[str, torch.Tensor]) -> None:
    data = saved(value)
    expected = torch.load(io.BytesIO(data), weights_only=True)
    model = opened(data)
    assert set(model.state_dict) == set(expected)
    for key, right in expected.items():
        lazy = model.state_dict[key]
        assert lazy.shape == tuple(right.shape)
        assert bytes(lazy.read()) == bytes_of(right)
    assert model.container is Container.TORCH_LEGACY
    assert model.safety.verdict is Verdict.SAFE
    assert model.problems == ()


def test_data_stay_in_the_file_until_they_are_asked_for() -> None:
    base = torch.arange(24.0).reshape(4, 6)
    model = opened(saved({"whole": base, "rows": base[1:3], "turned": base.t()}))
    assert model.state_dict["whole"].extents is not None
    assert model.state_dict["rows"].extents is not None
    assert model.state_dict["turned"].extents is None
    assert len(model.state_dict["turned"].sources) == 1


def test_types_that_torch_cannot_load_again_are_read() -> None:
    for dtype in (torch.float8_e4m3fn, torch.uint16):
        value = torch.arange(3).to(dtype)
        assert bytes(opened(saved({"w": value})).state_dict["w"].read()) == bytes_of(value)


@pytest.mark.parametrize("protocol", [2, 4])
def test_the_protocol_of_the_pickles_does_not_matter(protocol: int) -> None:
    model = opened(saved({"state_dict": {"w": torch.ones(3)}, "epoch": 7}, protocol))
    assert set(model.state_dict) == {"w"}
    assert model.state_dict.extras == {"epoch": 7}


# -- files from opcodes ----------------------------------------------------------------------------


def storage(key: str, numel: int, view: bytes = b"N", kind: str = "FloatStorage") -> bytes:
    parts = (text("storage"), name("torch", kind), text(key), text("cpu"), number(numel), view)
    return tuple_of(*parts) + b"Q"


def tensor(stored: bytes, size: int, offset: int = 0) -> bytes:
    return call_name(
        "torch._utils._rebuild_tensor",
        stored, number(offset), tuple_of(number(size)), tuple_of(number(1)),
    )  # fmt: skip


def system(*, little_endian: bool = True) -> bytes:
    flag = b"\x88" if little_endian else b"\x89"
    return dict_of({"protocol_version": number(1001), "little_endian": flag})


def stream(body: bytes, keys: list[str], data: bytes, **machine: bool) -> bytes:
    listed = b"](" + b"".join(map(text, keys)) + b"e"
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
    parts = (pickled(number(1001)), pickled(system(**machine)), pickled(body), pickled(listed))
    return magic + b"".join(parts) + data


def counted(numel: int, data: bytes) -> bytes:
    return numel.to_bytes(8, "little", signed=True) + data


FOUR = torch.arange(4.0)
RAW = bytes_of(FOUR)
ONE = dict_of({"w": tensor(storage("7", 4), 4)})


def test_numbers_of_a_big_endian_machine_are_little_endian_in_the_file() -> None:
    data = stream(ONE, ["7"], counted(4, RAW), little_endian=False)
    assert torch.equal(torch.load(io.BytesIO(data), weights_only=True)["w"], FOUR)
    assert bytes(opened(data).state_dict["w"].read()) == RAW


def test_a_view_of_a_storage_is_the_part_it_names() -> None:
    view = tuple_of(text("8"), number(1), number(3))
    data = stream(dict_of({"w": tensor(storage("7", 4, view), 2, 1)}), ["7"], counted(4, RAW))
    assert torch.equal(torch.load(io.BytesIO(data), weights_only=True)["w"], FOUR[2:])
    assert bytes(opened(data).state_dict["w"].read()) == RAW[8:]


def test_a_pickled_module_of_an_unknown_class_gives_its_parameters() -> None:
    module = (
        tuple_of(text("module"), name("vdsr", "Net"), text("vdsr.py"), text("class Net")) + b"Q"
    )
    state = dict_of({"_parameters": ONE, "_buffers": b"}", "_modules": b"}"})
    data = stream(dict_of({"model": module + b")\x81" + state + b"b"}), ["7"], counted(4, RAW))
    model = opened(data)
    assert bytes(model.state_dict["w"].read()) == RAW
    assert model.safety.verdict is Verdict.SUSPICIOUS


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (stream(ONE, ["7"], counted(5, RAW)), "has 5 elements, its pickle says 4"),
        (stream(ONE, ["7"], counted(-1, RAW)), "has -1 elements"),
        (stream(ONE, [], b""), "storage 7, which the file does not hold"),
        (stream(ONE, ["7", "9"], counted(4, RAW)), "storage 9, which no tensor uses"),
        (stream(ONE, ["7", "7"], counted(4, RAW)), "not one of different texts"),
        (stream(dict_of({"w": tensor(storage("7", 4), 5)}), ["7"], counted(4, RAW)), "needs 20"),
        (stream(dict_of({"w": tensor(storage("7", -4), 1)}), ["7"], RAW), "length that is not"),
        (
            stream(
                dict_of({"w": tensor(storage("7", 4, tuple_of(text("8"), *[number(3)] * 2)), 1)}),
                ["7"],
                counted(4, RAW),
            ),
            "reaches outside storage 7",
        ),
        (
            stream(
                dict_of({"w": tensor(storage("7", 4, tuple_of(text("8"), *[number(1)] * 2)), 2)}),
                ["7"],
                counted(4, RAW),
            ),
            "needs 8 bytes of a storage of 4",
        ),
        (
            stream(dict_of({"w": tensor(storage("7", 4, text("8")), 1)}), ["7"], counted(4, RAW)),
            "not described by three values",
        ),
        (stream(ONE, ["7"], counted(4, RAW)).replace(b"J\xe9\x03", b"J\xea\x03"), "protocol 1001"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_contradicts_itself_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(CorruptFile) as caught:
        opened(data)
    assert words in caught.value.cause
    assert isinstance(caught.value, Inspected)


def test_a_storage_that_is_larger_than_the_file_says_where_the_file_ends() -> None:
    data = stream(dict_of({"w": tensor(storage("7", 1 << 30), 4)}), ["7"], counted(1 << 30, RAW))
    with pytest.raises(TruncatedFile, match=rf"ends at byte {len(data)}, storage 7 needs 4294"):
        opened(data)


def test_a_file_cut_at_any_byte_gives_an_error_of_ours() -> None:
    data = saved({"state_dict": {"a": torch.ones(3)}})
    for length in range(len(data)):
        with pytest.raises(FileProblem):
            opened(data[:length])


# -- safety ----------------------------------------------------------------------------------------

EVIL = call_name("os.system", text("true"))
HOSTILE = hostile_bodies("true")


def test_every_one_of_the_pickles_is_in_the_report() -> None:
    magic, *rest = (
        pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2), pickled(number(1001)),
        pickled(system()), pickled(ONE), pickled(b"](" + text("7") + b"e"),
    )  # fmt: skip
    for place in range(4):
        parts = [*rest]
        parts[place] = pickled(EVIL)
        data = magic + b"".join(parts) + counted(4, RAW)
        assert safety_of(MemoryBytes(data, "x.pt")).verdict is Verdict.DANGEROUS


@pytest.mark.parametrize("spelling", HOSTILE)
def test_every_hostile_spelling_is_called_dangerous(spelling: str) -> None:
    for body in (HOSTILE[spelling], dict_of({"state_dict": ONE, "more": HOSTILE[spelling]})):
        source = MemoryBytes(stream(body, ["7"], counted(4, RAW)), "x.pt")
        assert safety_of(source).verdict is Verdict.DANGEROUS


def test_tensors_beside_a_hostile_value_can_be_looked_at() -> None:
    body = dict_of({"w": tensor(storage("7", 4), 4), "x": EVIL})
    model = opened(stream(body, ["7"], counted(4, RAW)))
    assert model.safety.verdict is Verdict.DANGEROUS
    assert bytes(model.state_dict["w"].read()) == RAW


def test_what_follows_the_last_storage_is_looked_into() -> None:
    data = stream(ONE, ["7"], counted(4, RAW))
    quiet, loud = opened(data + b"more"), opened(data + pickled(EVIL))
    assert quiet.problems == ("4 bytes follow the last storage",)
    assert quiet.safety.verdict is Verdict.SUSPICIOUS
    assert loud.safety.verdict is Verdict.DANGEROUS
    assert opened(data + data).safety.verdict is Verdict.SUSPICIOUS


@given(st.data())
@examples(300)
def test_a_mutated_file_gives_an_error_of_ours_or_tensors_of_the_right_size(
    drawn: st.DataObject,
) -> None:
    data = bytearray(saved({"a": torch.arange(6.0).reshape(2, 3).t(), "b": torch.ones(2)}))
    for _ in range(drawn.draw(st.integers(1, 4))):
        data[drawn.draw(st.integers(0, len(data) - 1))] = drawn.draw(st.integers(0, 255))
    try:
        model = opened(bytes(data))
        for lazy in model.state_dict.values():
            assert len(memoryview(lazy.read())) == lazy.nbytes
    except FileProblem:
        pass


def test_a_checkpoint_of_1142_tensors_is_inspected_without_torch_or_numpy(tmp_path: Path) -> None:
    path = tmp_path / "large.ckpt"
    path.write_bytes(saved({f"layer.{i}.weight": torch.zeros(2) for i in range(1142)}))
    found = inspected_in_a_process(path)
    assert (found["container"], found["tensors"]) == ("torch-legacy", 1142)
