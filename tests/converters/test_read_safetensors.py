"""The safetensors reader: equal to the library, and stricter only as its format demands."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.examples import examples
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize
from safetensors.torch import save

from converters.bytesource import MemoryBytes
from converters.containers import Container, Model, open_model
from converters.errors import CorruptFile, FileProblem, TruncatedFile
from converters.pickles.verdict import Verdict

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool, torch.uint16, torch.uint32, torch.uint64,
    torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu,
]  # fmt: skip


def file_of(header: object, data: bytes = b"", *, raw: bytes | None = None) -> MemoryBytes:
    encoded = raw if raw is not None else json.dumps(header).encode()
    return MemoryBytes(struct.pack("<Q", len(encoded)) + encoded + data, "x.safetensors")


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def bytes_of(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().clone().untyped_storage())


@st.composite
def state_dicts(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    names = draw(st.lists(st.text(min_size=1, max_size=12), max_size=6, unique=True))
    tensors = {}
    for name in names:
        if name == "__metadata__":
            continue
        shape = draw(st.lists(st.integers(0, 4), max_size=4))
        dtype = draw(st.sampled_from(DTYPES))
        tensors[name] = torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)
    return tensors


@given(
    state_dicts(),
    st.none() | st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=4),
)
@examples(60)
def test_whatever_the_library_writes_is_read_equal(
    tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None
) -> None:
    if not tensors:
        metadata = None  # safetensors 0.8 then writes a header that is not JSON
    data = save(tensors, metadata)
    model = open_model(MemoryBytes(data, "x.safetensors"))
    assert set(model.state_dict) == set(tensors)
    for name, tensor in tensors.items():
        lazy = model.state_dict[name]
        assert lazy.shape == tuple(tensor.shape)
        assert bytes(lazy.read()) == bytes_of(tensor)
    assert model.state_dict.metadata == (metadata or {})
    assert model.nbytes == len(data)
    assert model.container is Container.SAFETENSORS
    assert model.safety.verdict is Verdict.SAFE


@given(state_dicts(), st.data())
@examples(60)
def test_what_is_accepted_after_a_mutation_the_library_accepts_too(
    tensors: dict[str, torch.Tensor], data: st.DataObject
) -> None:
    content = bytearray(save(tensors))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        model = open_model(MemoryBytes(bytes(content), "x.safetensors"))
    except FileProblem:
        return
    accepted = dict(deserialize(bytes(content)))
    assert set(accepted) == set(model.state_dict)
    for name, described in accepted.items():
        assert bytes(model.state_dict[name].read()) == bytes(described["data"])


def test_a_file_cut_at_any_byte_is_called_truncated() -> None:
    content = save({"a": torch.ones(3, 2), "b": torch.zeros(5, dtype=torch.int8)})
    for length in range(9, len(content)):
        with pytest.raises(TruncatedFile):
            open_model(MemoryBytes(content[:length], "x.safetensors"))
    for length in range(1, 9):
        with pytest.raises(FileProblem):
            open_model(MemoryBytes(content[:length], "x.safetensors"))


def test_a_truncated_file_says_where_it_ends_and_where_it_should() -> None:
    content = save({"a": torch.ones(100)})
    with pytest.raises(
        TruncatedFile, match=rf"ends at byte 100, its header announces {len(content)}"
    ):
        open_model(MemoryBytes(content[:100], "x.safetensors"))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (file_of({"a": entry("F32", [2], 0, 8)}, bytes(9)), "1 bytes follow the last tensor"),
        (file_of({"a": entry("F32", [3], 0, 8)}, bytes(8)), "needs 12 bytes, its range has 8"),
        (file_of({"a": entry("F33", [2], 0, 8)}, bytes(8)), 'unknown dtype "F33"'),
        (file_of({"a": entry("F32", [-2], 0, 8)}, bytes(8)), "shape that is not a list"),
        (file_of({"a": entry("F32", [True], 0, 4)}, bytes(4)), "shape that is not a list"),
        (file_of({"a": entry("F4", [3], 0, 1)}, bytes(1)), "byte boundary"),
        (file_of({"a": entry("F32", [2], 8, 0)}, bytes(8)), "not a range"),
        (file_of({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)), "data_offsets"),
        (file_of({"a": 3}), "not described by an object"),
        (
            file_of({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)}, bytes(3)),
            'tensor "b" begins at 1 and overlaps',
        ),
        (
            file_of({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 3, 5)}, bytes(5)),
            'tensor "b" begins at 3 and leaves a hole',
        ),
        (file_of({"a": entry("U8", [2], 1, 3)}, bytes(3)), "leaves a hole"),
        (file_of({"__metadata__": {"a": 1}}), "is not a text"),
        (file_of({"__metadata__": [1]}), "not an object"),
        (file_of(None, raw=b'{"a": 1,, }'), "not JSON"),
        (file_of(None, raw=b'{"a\xff": 1}'), "not UTF-8 at byte 3"),
        (file_of(None, raw=b'{"a": {"dtype":"U8","dtype":"U8"}}'), 'the key "dtype" twice'),
        (file_of(None, raw=b'{"__metadata__":{"a":"b"},"__metadata__":{}}'), "__metadata__"),
        (file_of(None, raw=b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "nested too deeply"),
        (file_of(None, raw=b'{"a":[' + b"0," * 2_000_000 + b"0]}"), "more than 2000000 values"),
        (file_of(None, raw=b'{"a":' + b"9" * 5000 + b"}"), "not JSON"),
        (MemoryBytes(struct.pack("<Q", 10**8 + 1) + b"{}", "x.safetensors"), "more than the"),
        (MemoryBytes(bytes(9), "x.safetensors"), "not JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_broken_rule_is_named(source: MemoryBytes, words: str) -> None:
    with pytest.raises(CorruptFile) as caught:
        open_model(source)
    assert words in caught.value.cause
    assert caught.value.path == "x.safetensors"


def test_a_header_may_be_as_long_as_the_library_allows_and_not_longer() -> None:
    """Of such a length, without that many bytes: who is refused for it is told so at once."""
    longest, too_long = (struct.pack("<Q", 10**8 + more) + b"{}" for more in (0, 1))
    with pytest.raises(SafetensorError, match="invalid header length"):
        deserialize(longest)
    with pytest.raises(TruncatedFile, match="its header alone needs 100000008"):
        open_model(MemoryBytes(longest, "x.safetensors"))
    with pytest.raises(SafetensorError, match="header too large"):
        deserialize(too_long)
    with pytest.raises(CorruptFile, match="more than the format's 100000000"):
        open_model(MemoryBytes(too_long, "x.safetensors"))


def test_a_key_given_twice_is_refused_though_the_library_takes_it() -> None:
    source = file_of(
        None, raw=b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
        b'"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', data=b"x",
    )  # fmt: skip
    with pytest.raises(CorruptFile, match="twice"):
        open_model(source)


@pytest.mark.parametrize(
    "source",
    [
        file_of({}),
        file_of({"__metadata__": None}),
        file_of({"a": entry("F32", [], 0, 4)}, bytes(4)),
        file_of({"a": entry("F32", [0, 7], 0, 0)}),
        file_of({"b": entry("U8", [1], 1, 2), "a": entry("U8", [1], 0, 1)}, bytes(2)),
        file_of({"a": {**entry("F4", [4], 0, 2), "more": "ignored"}}, bytes(2)),
    ],
)
def test_unusual_but_legal_files_are_read(source: MemoryBytes) -> None:
    model = open_model(source)
    assert model.problems == ()
    assert all(len(bytes(tensor.read())) == tensor.nbytes for tensor in model.state_dict.values())


def test_a_header_that_begins_with_blanks_is_read_and_remarked() -> None:
    model = open_model(file_of(None, raw=b"  {}"))
    assert model.problems == ("the header begins with blanks, not with {",)
    assert model.header_bytes == 12


def test_the_data_begins_where_header_bytes_says(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(save({"a": torch.arange(6, dtype=torch.int8)}))
    model: Model = open_model(path)
    assert path.read_bytes()[model.header_bytes :] == bytes(range(6))


def test_opening_one_loads_no_reader_of_other_containers(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(save({"a": torch.ones(2)}))
    program = (
        "import sys\n"
        "from converters.containers import open_model\n"
        f"print(list(open_model({str(path)!r}).state_dict))\n"
        "others = ('containers.torch_zip', 'containers.gguf', 'pickles.machine')\n"
        "print([name for name in others if f'converters.{name}' in sys.modules])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines() == ["['a']", "[]"]


def test_files_of_one_structure_share_it_and_keep_their_own_words_and_bytes() -> None:
    header = {"a": entry("U8", [2], 0, 2), "b": entry("U8", [1], 2, 3)}
    first, second = (
        open_model(file_of({"__metadata__": {"who": who}, **header}, data)).state_dict
        for who, data in (("one", b"\1\2\3"), ("two", b"\4\5\6"))
    )
    assert (first.metadata["who"], second.metadata["who"]) == ("one", "two")
    assert [bytes(tensor.read()) for tensor in first.values()] == [b"\1\2", b"\3"]
    assert [bytes(tensor.read()) for tensor in second.values()] == [b"\4\5", b"\6"]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"__metadata__":{"who":"me"},}',
        b'{"__metadata__":{"who":"me"},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},}',
        b'{"__metadata__":{"who":"me"} "a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
        b'{"__metadata__":{"who":"me"},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}} {}',
        b'{"__metadata__":{"w":"a","w":"b"},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
        b'{"__metadata__":{},"\\u005f_metadata__":{},"a":{"dtype":"U8","shape":[1]}}',
        b'{"__metadata__":["me"],"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
    ],
)
def test_a_broken_header_is_refused_though_a_sound_one_had_the_same_tensors(raw: bytes) -> None:
    one = entry("U8", [1], 0, 1)
    assert len(open_model(file_of({"__metadata__": {"who": "you"}, "a": one}, b"\0")).state_dict)
    with pytest.raises(CorruptFile, match=r"header|__metadata__|key"):
        open_model(file_of(None, b"\0", raw=raw))


def test_a_file_shorter_than_others_of_its_structure_is_truncated() -> None:
    header = {"__metadata__": {"who": "me"}, "a": entry("U8", [4], 0, 4)}
    assert len(open_model(file_of(header, bytes(4))).state_dict) == 1
    with pytest.raises(TruncatedFile, match="announces"):
        open_model(file_of(header, bytes(3)))
