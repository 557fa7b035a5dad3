"""GGUF files made here: plain and quantised tensors, metadata, lies and mutations."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from helpers.examples import examples
from helpers.gguf import ARRAY, BOOL, F32, I32, NUMBER, STRING, U8, U32, array, entry, gguf, text
from helpers.inspecting import inspected_in_a_process
from hypothesis import given
from hypothesis import strategies as st

from converters.bytesource import MemoryBytes
from converters.containers import Container, Model, open_model
from converters.containers.gguf_blocks import FORMULAS, TYPES, values
from converters.errors import CorruptFile, FileProblem, TruncatedFile, UnsupportedFile
from converters.pickles.verdict import Verdict
from converters.statedict import Extent


def opened(data: bytes) -> Model:
    return open_model(MemoryBytes(data, "x.gguf"))


PLAIN = {"F32": "f4", "F16": "f2", "F64": "f8", "I8": "i1", "I16": "i2", "I32": "i4", "I64": "i8"}


@given(
    st.dictionaries(
        st.text("abc.", min_size=1, max_size=8),
        st.tuples(st.lists(st.integers(0, 5), max_size=4), st.sampled_from(sorted(PLAIN))),
        max_size=5,
    ),
    st.sampled_from([2, 3]),
    st.sampled_from([1, 32, 64]),
)
@examples(100)
def test_plain_tensors_are_extents_with_their_dimensions_reversed(
    described: dict[str, tuple[list[int], str]], version: int, alignment: int
) -> None:
    arrays = {
        name: np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(PLAIN[kind])
        for name, (shape, kind) in described.items()
    }
    stored = {
        name: (array.shape[::-1], described[name][1], array.tobytes())
        for name, array in arrays.items()
    }
    aligned = {"general.alignment": entry(U32, "<I", alignment)}
    model = opened(gguf(stored, aligned, version=version, alignment=alignment))
    assert model.container is Container.GGUF
    assert model.safety.verdict is Verdict.SAFE
    assert model.problems == ()
    assert list(model.state_dict) == list(arrays)
    for name, right in arrays.items():
        lazy = model.state_dict[name]
        assert lazy.extents is not None
        assert (lazy.shape, lazy.dtype.label) == (right.shape, described[name][1])
        assert bytes(lazy.read()) == right.tobytes()


def test_bfloat16_is_kept_as_it_is() -> None:
    model = opened(gguf({"w": ((2,), "BF16", b"\x80\x3f\x00\x40")}))
    assert model.state_dict["w"].dtype.label == "BF16"
    assert bytes(model.state_dict["w"].read()) == b"\x80\x3f\x00\x40"


# -- quantised tensors -----------------------------------------------------------------------------

HALVES = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q2_K": (80, 82),
    "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,),
}  # fmt: skip
"""Where the blocks of a type have their scales as float16."""

DIGESTS = {
    "Q4_0": "ace025e694d49672a1a1ed33f113d618be2784652660787ea8ca57d0e1424647",
    "Q4_1": "792d3bcc01e6ce88c11ccd547443a0a534c935c276f52eb0f91fd8c4dd29877a",
    "Q5_0": "9d348a5836ad67d54985bc87e5adcc0618078d84501f6eef7ba3bb85cc789704",
    "Q5_1": "438584647877b26ada2a28f3ce5d0ce22edea5b05b52eea10bb577d8fa7ce320",
    "Q8_0": "a2d2b72d8dd374f5e0b514742ac92c81dedd80252457829d632797f7094d6da4",
    "Q2_K": "90daecb5282b58e9cf1399d550b99cd8d73197affe245c5435158234f1810e94",
    "Q3_K": "46e7e4e34fa6ca7d6b2e5f73f3d40fd7510555a297ced2b1af0b913e44a0b3c3",
    "Q4_K": "fcda40bb3a31ced1a74935946acb948972899db0dabb2d81b9ace98d2e81ccd1",
    "Q5_K": "a7a17f617fede4d886031bded4182614b7c302ce91f480cd8c87f1218082be2e",
    "Q6_K": "5bbd33f551be2bea5ab6d9fb587deddc61e2cc7f8d86dc0cf8f3d4b6ffaa77ff",
}  # fmt: skip
"""SHA-256 of what `gguf.dequantize` of the PyPI package gguf 0.19.0 makes of `blocks_of`."""


def blocks_of(name: str, count: int = 64) -> bytes:
    """Blocks of varied bytes with finite scales."""
    kind = TYPES[NUMBER[name]]
    raw = bytearray((i * 37 + i // 256 * 11 + i // 7) % 256 for i in range(count * kind.nbytes))
    for block in range(count):
        for at in HALVES[name]:
            raw[block * kind.nbytes + at + 1] = 0x2C + block % 16 + 0x80 * (block % 2)
    return bytes(raw)


def dequantised(name: str, raw: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    found = values(Extent(MemoryBytes(raw), 0, len(raw)), TYPES[NUMBER[name]])
    return np.frombuffer(found, np.float32)


@pytest.mark.parametrize("name", FORMULAS)
def test_values_are_those_of_the_gguf_package_to_the_last_bit(name: str) -> None:
    found = dequantised(name, blocks_of(name))
    assert hashlib.sha256(found.tobytes()).hexdigest() == DIGESTS[name]


@pytest.mark.parametrize("name", FORMULAS)
def test_random_blocks_give_what_the_gguf_package_gives(name: str) -> None:
    peer = pytest.importorskip("gguf")
    kind = TYPES[NUMBER[name]]
    raw = np.random.default_rng(0).integers(0, 256, (500, kind.nbytes), dtype=np.uint8)
    with np.errstate(all="ignore"):
        right = peer.quants.dequantize(raw, peer.GGMLQuantizationType[name]).reshape(-1)
    np.testing.assert_array_equal(dequantised(name, raw.tobytes()), right)


def test_a_block_worked_out_by_hand() -> None:
    half, eighth = struct.pack("<e", 0.5), struct.pack("<e", 0.125)
    eight_bits = half + struct.pack("32b", *range(-16, 16))
    assert dequantised("Q8_0", eight_bits).tolist() == [n / 2 for n in range(-16, 16)]
    nibbles = half + bytes(low | (15 - low) << 4 for low in range(16))
    expected = [(n - 8) / 2 for n in (*range(16), *reversed(range(16)))]
    assert dequantised("Q4_0", nibbles).tolist() == expected
    with_minimum = half + eighth + nibbles[2:]
    expected = [n / 2 + 0.125 for n in (*range(16), *reversed(range(16)))]
    assert dequantised("Q4_1", with_minimum).tolist() == expected


@pytest.mark.parametrize("name", FORMULAS)
def test_the_length_of_a_tensor_does_not_change_its_values(name: str) -> None:
    raw = blocks_of(name, 1)
    many = (1 << 20) // len(raw) + 3  # more than are computed at a time
    assert np.array_equal(dequantised(name, raw * many), np.tile(dequantised(name, raw), many))


def test_quantised_tensors_are_f32_and_computed_when_read() -> None:
    raw = blocks_of("Q4_K", 6)
    model = opened(gguf({"w": ((512, 3), "Q4_K", raw)}))
    lazy = model.state_dict["w"]
    assert (lazy.dtype.label, lazy.shape, lazy.extents) == ("F32", (3, 512), None)
    assert lazy.origin == "x.gguf: w (Q4_K)"
    assert len(lazy.sources) == 1
    assert bytes(lazy.read()) == dequantised("Q4_K", raw).tobytes()
    assert bytes(lazy.slice0(1, 2).read()) == dequantised("Q4_K", raw)[512:1024].tobytes()
    assert model.state_dict.metadata["gguf.types"] == "1 Q4_K"


def test_a_shape_from_before_the_quantisation_is_restored() -> None:
    shape = array(I32, [struct.pack("<i", n) for n in (4, 8, 3, 1)])
    values = {"comfy.gguf.orig_shape.w": shape}
    model = opened(gguf({"w": ((32, 3), "Q8_0", blocks_of("Q8_0", 3))}, values))
    assert model.state_dict["w"].shape == (4, 8, 3, 1)
    assert "comfy.gguf.orig_shape.w" not in model.state_dict.metadata


@pytest.mark.parametrize("sizes", [(4, 8), (-4, -24), ()])
def test_an_original_shape_of_another_size_is_refused(sizes: tuple[int, ...]) -> None:
    shape = array(I32, [struct.pack("<i", n) for n in sizes])
    with pytest.raises(CorruptFile, match="cannot have had the shape"):
        opened(gguf({"w": ((96,), "I8", bytes(96))}, {"comfy.gguf.orig_shape.w": shape}))


def test_types_without_a_formula_are_named_and_refused_when_asked_for() -> None:
    model = opened(gguf({"w": ((256,), "IQ1_S", bytes(50)), "b": ((1,), "F32", bytes(4))}))
    assert model.problems == ("1 tensors of type IQ1_S cannot be dequantised",)
    assert model.state_dict["w"].shape == (256,)
    assert bytes(model.state_dict["b"].read()) == bytes(4)
    with pytest.raises(UnsupportedFile, match=r"x\.gguf: w: is quantised as IQ1_S"):
        model.state_dict["w"].read()


# -- metadata --------------------------------------------------------------------------------------


def test_metadata_become_texts() -> None:
    model = opened(
        gguf(
            {},
            {
                "general.architecture": (STRING, text("flux")),
                "general.file_type": entry(U32, "<I", 7),
                "a.flag": entry(BOOL, "<?", True),
                "a.number": entry(F32, "<f", 0.5),
                "a.list": array(U8, [b"\1", b"\2"]),
                "a.vocabulary": array(STRING, [text(str(n)) for n in range(40_000)]),
                "a.broken": (STRING, text(b"\xff")),
            },
        )
    )
    assert model.state_dict.metadata == {
        "general.architecture": "flux",
        "general.file_type": "7",
        "a.flag": "true",
        "a.number": "0.5",
        "a.list": "[1, 2]",
        "a.vocabulary": "(40000 values)",
        "a.broken": "\N{REPLACEMENT CHARACTER}",
        "gguf.types": "",
    }


# -- lies ------------------------------------------------------------------------------------------

ONE = {"w": ((4,), "F32", bytes(16))}
TWO = {"a": ((16,), "F32", bytes(64)), "b": ((8,), "F32", bytes(32))}


def counts(tensors: int, values: int, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, values) + rest


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (gguf(ONE, version=1), UnsupportedFile, "GGUF file of version 1"),
        (gguf(ONE, version=0x03000000), UnsupportedFile, "big-endian GGUF file of version 3"),
        (counts(1 << 60, 0), TruncatedFile, "its 1152921504606846976 tensors need at least"),
        (counts(0, 1 << 60), TruncatedFile, "metadata entries need at least"),
        (counts(0, 70_000, bytes(13 * 70_000)), CorruptFile, "more than 65536 metadata entries"),
        (counts(0, 1, b"\xff" * 20), TruncatedFile, "bytes of a text need"),
        (gguf({}, {"k": (13, b"")}), CorruptFile, "unknown type 13 under 'k'"),
        (gguf({}, {"k": array(ARRAY, [])}), UnsupportedFile, "arrays in arrays, under 'k'"),
        (gguf({}, {"k": array(U8, [], 1 << 50)}), TruncatedFile, "values under 'k' need"),
        (gguf({}, {b"\xff": entry(U8, "<B", 1)}), CorruptFile, "not UTF-8"),  # type: ignore[dict-item]
        (gguf({"w" * 2000: ((1,), "I8", b"x")}), CorruptFile, "more than 1024 characters"),
        (gguf({"w": ((1,) * 9, "I8", b"x")}), CorruptFile, "with 9 dimensions"),
        (gguf({"w": ((1,), "?", b"x")}), UnsupportedFile, "'w' is of the unknown type 77"),
        (gguf({"w": ((33,), "Q8_0", bytes(34))}), CorruptFile, "not whole blocks of Q8_0"),
        (gguf({"w": ((), "Q8_0", bytes(34))}), CorruptFile, "not whole blocks of Q8_0"),
        (gguf({"w": ((1 << 62, 4), "F32", b"")}), TruncatedFile, "its tensor 'w' needs"),
        (gguf(TWO, shift=-32), CorruptFile, "'b' at byte 128 overlaps 'a', which ends at 160"),
        (gguf(TWO, shift=4), CorruptFile, "'b' at byte 164 is not aligned to 32"),
        (gguf(ONE, {"general.alignment": entry(U32, "<I", 24)}), CorruptFile, "not a power of 2"),
        (gguf(ONE, {"general.alignment": entry(U32, "<I", 0)}), CorruptFile, "not a power of 2"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_lie_is_named(data: bytes, kind: type[FileProblem], words: str) -> None:
    with pytest.raises(kind) as caught:
        opened(data)
    assert words in caught.value.cause
    assert caught.value.path == "x.gguf"


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(CorruptFile, match="the tensor 'a' twice"):
        opened(gguf(TWO).replace(text("b"), text("a")))
    values = {"k": entry(U8, "<B", 1), "l": entry(U8, "<B", 1)}
    with pytest.raises(CorruptFile, match="the metadata key 'k' twice"):
        opened(gguf({}, values).replace(text("l"), text("k")))


def test_bytes_after_the_last_tensor_are_remarked() -> None:
    assert opened(gguf(TWO) + b"more").problems == ("4 bytes follow the last tensor",)


def test_a_file_cut_before_its_last_value_gives_an_error_of_ours() -> None:
    data = gguf({"w": ((32,), "F32", bytes(128))}, {"k": (STRING, text("v"))})
    for length in range(len(data)):
        with pytest.raises(FileProblem):
            opened(data[:length])


MIXED = gguf(
    {
        "plain": ((3, 2), "F16", bytes(range(12))),
        "blocks": ((32, 2), "Q8_0", blocks_of("Q8_0", 2)),
        "more": ((256,), "Q6_K", blocks_of("Q6_K", 1)),
    },
    {
        "general.architecture": (STRING, text("sdxl")),
        "comfy.gguf.orig_shape.blocks": array(I32, [struct.pack("<i", n) for n in (2, 8, 4)]),
        "general.alignment": entry(U32, "<I", 32),
    },
)


@given(st.data())
@examples(500)
def test_a_mutated_file_gives_an_error_of_ours_or_tensors_of_the_right_size(
    drawn: st.DataObject,
) -> None:
    data = bytearray(MIXED)
    for _ in range(drawn.draw(st.integers(1, 4))):
        data[drawn.draw(st.integers(0, len(data) - 1))] = drawn.draw(st.integers(0, 255))
    try:
        for lazy in open_model(MemoryBytes(bytes(data), "x.bin")).state_dict.values():
            assert memoryview(lazy.read()).nbytes == lazy.nbytes
    except FileProblem:
        pass


def test_a_file_is_inspected_without_torch_or_numpy(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(MIXED)
    found = inspected_in_a_process(path)
    assert (found["container"], found["tensors"]) == ("gguf", 3)
