"""GGUF files written here: read back by ggml's own library, quantised as it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from helpers.examples import examples
from hypothesis import given
from hypothesis import strategies as st

from converters.bases import Base
from converters.bytesource import MemoryBytes
from converters.containers import Container, open_model
from converters.dtypes import DType
from converters.errors import BadValue, Overflow, UnsupportedFile
from converters.identify import Identity, Kind, identify
from converters.statedict import Extent, LazyTensor, StateDict
from converters.transform.quantise import QUANTISERS, can_be_quantised, quantised
from converters.writers.gguf import gguf_layout, seen_in_gguf, write_gguf

PLAIN = (DType.F32, DType.F16, DType.BF16, DType.F64, DType.I8, DType.I32, DType.I64)


def stored(dtype: DType, shape: tuple[int, ...], data: bytes, name: str = "x") -> LazyTensor:
    return LazyTensor(dtype, shape, (Extent(MemoryBytes(data), 0, len(data)),), name)


def matrix(numbers: Any) -> LazyTensor:
    return stored(DType.F32, numbers.shape, numbers.astype("<f4").tobytes())


def some(**fields: Any) -> Identity:
    """The identity of an unknown file, but for the fields given."""
    return replace(identify(StateDict({})), **fields)


@st.composite
def states(draw: st.DrawFn) -> StateDict:
    tensors = {}
    names = st.text("abc.ä", min_size=1, max_size=20)
    for name in draw(st.lists(names, unique=True, max_size=5)):
        dtype = draw(st.sampled_from(PLAIN))
        shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
        size = LazyTensor(dtype, shape, (), "").nbytes
        tensors[name] = stored(dtype, shape, draw(st.binary(min_size=size, max_size=size)), name)
    texts = st.text(st.characters(codec="utf-8"), max_size=9)
    return StateDict(tensors, draw(st.dictionaries(texts, texts, max_size=3)))


@examples(40)
@given(state=states())
def test_plain_tensors_and_texts_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, state: StateDict
) -> None:
    target = tmp_path_factory.mktemp("gguf") / "x.gguf"
    written = write_gguf(state, some(), target)
    model = open_model(target)
    assert (model.container, model.problems) == (Container.GGUF, ())
    assert written.nbytes == target.stat().st_size == gguf_layout(state, some(), None).nbytes
    assert list(model.state_dict) == list(state)
    for name, tensor in state.items():
        again = model.state_dict[name]
        assert (again.dtype, again.shape) == (tensor.dtype, tensor.shape)
        assert bytes(again.read()) == bytes(tensor.read())
    assert state.metadata.items() <= model.state_dict.metadata.items()


NUMBERS = st.floats(-1e4, 1e4, width=32, allow_subnormal=False)


@examples(30)
@given(
    kind=st.sampled_from(sorted(QUANTISERS)),
    first=st.lists(NUMBERS, min_size=32, max_size=32),
    seed=st.integers(0, 99),
    scale=st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e3]),
)
def test_blocks_are_those_of_ggml_to_the_bit(
    kind: str, first: list[float], seed: int, scale: float
) -> None:
    noise = np.random.default_rng(seed).standard_normal((7, 64)) * scale
    numbers = np.vstack([np.array([first * 2]), noise]).astype(np.float32)
    expected = gguf.quants.quantize(numbers, gguf.GGMLQuantizationType[kind])
    assert bytes(quantised(matrix(numbers), kind).read()) == expected.tobytes()


def test_long_tensors_are_quantised_piece_by_piece() -> None:
    numbers = np.random.default_rng(0).standard_normal((20, 1 << 14)).astype(np.float32)
    made = quantised(matrix(numbers), "Q8_0")
    assert len(made.pieces) > 1
    assert sum(piece.nbytes for piece in made.pieces) == made.nbytes
    expected = gguf.quants.quantize(numbers, gguf.GGMLQuantizationType.Q8_0)
    assert bytes(made.read()) == expected.tobytes()


@pytest.mark.parametrize("kind", QUANTISERS)
@pytest.mark.parametrize("bad", [np.inf, np.nan, 1e10], ids=str)
def test_blocks_that_cannot_hold_the_values_are_refused(kind: str, bad: float) -> None:
    numbers = np.ones((1, 64), np.float32)
    numbers[0, 40] = bad
    with pytest.raises(Overflow, match="too large"):
        quantised(matrix(numbers), kind).read()


UNET = "model.diffusion_model."
LARGE = (64, 64)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        (f"{UNET}input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight", LARGE, True),
        ("cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight", LARGE, True),
        ("double_blocks.0.img_attn.qkv.weight", LARGE, True),
        (f"{UNET}single_transformer_blocks.0.proj_out.weight", LARGE, True),
        (f"{UNET}input_blocks.1.0.in_layers.2.weight", (64, 64, 3, 3), False),
        (f"{UNET}input_blocks.1.1.transformer_blocks.0.norm1.weight", (4096,), False),
        (f"{UNET}middle_block.1.proj_in.weight", (8, 96), False),
        (f"{UNET}middle_block.1.proj_in.weight", (64, 48), False),
        (f"{UNET}time_embed.0.weight", LARGE, False),
        (f"{UNET}label_emb.0.0.weight", LARGE, False),
        (f"{UNET}final_layer.linear.weight", LARGE, False),
        ("proj_out.weight", LARGE, False),
        ("cond_stage_model.transformer.text_model.embeddings.token_embedding.weight", LARGE, False),
        ("first_stage_model.decoder.mid.attn_1.q.weight", LARGE, False),
    ],
)
def test_only_large_matrices_within_a_model_are_quantised(
    name: str, shape: tuple[int, ...], expected: bool
) -> None:
    assert can_be_quantised(name, LazyTensor(DType.F16, shape, (), "")) is expected
    assert not can_be_quantised(name, LazyTensor(DType.I64, shape, (), ""))


def test_other_programs_find_the_architecture_the_types_and_their_numbers(tmp_path: Path) -> None:
    numbers = np.random.default_rng(3).standard_normal((64, 64)).astype(np.float32)
    state = StateDict({f"{UNET}a.weight": matrix(numbers), f"{UNET}a.bias": matrix(numbers[0])})
    sdxl = some(kind=Kind.CHECKPOINT, base=Base.SDXL)
    write_gguf(state, sdxl, tmp_path / "x.gguf", quantise="Q4_0")
    reader = gguf.GGUFReader(tmp_path / "x.gguf")
    field = reader.get_field("general.architecture")
    assert field is not None
    assert field.contents() == "sdxl"
    assert reader.get_field("general.file_type").contents() == gguf.LlamaFileType.MOSTLY_Q4_0
    weight, bias = reader.tensors
    assert (weight.tensor_type.name, bias.tensor_type.name) == ("Q4_0", "F32")
    assert list(weight.shape) == [64, 64]
    right = gguf.quants.dequantize(weight.data, weight.tensor_type)
    seen = seen_in_gguf(state, "Q4_0")
    for name, tensor in open_model(tmp_path / "x.gguf").state_dict.items():
        assert bytes(tensor.read()) == bytes(seen[name].read())
    assert bytes(seen[f"{UNET}a.weight"].read()) == right.astype("<f4").tobytes()
    assert np.abs(right - numbers).max() < np.abs(numbers).max() / 8


def test_eight_bit_floats_become_f16_without_loss() -> None:
    every = bytes(range(256))
    state = StateDict({"w": stored(DType.F8_E4M3, (256,), every)})
    (made,) = seen_in_gguf(state, None).values()
    assert made.dtype is DType.F16
    halves = torch.frombuffer(bytearray(made.read()), dtype=torch.float16)
    right = torch.frombuffer(bytearray(every), dtype=torch.float8_e4m3fn)
    assert torch.equal(halves.float().nan_to_num(9e4), right.float().nan_to_num(9e4))


@pytest.mark.parametrize("kind", [Kind.LORA, Kind.EMBEDDING, Kind.HYPERNETWORK])
def test_what_no_program_reads_from_gguf_is_refused(kind: Kind) -> None:
    with pytest.raises(UnsupportedFile, match=f"is of kind {kind}"):
        gguf_layout(StateDict({}), some(kind=kind), None)


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "cause"),
    [
        ("w", DType.BOOL, (1,), "no type for BOOL"),
        ("w", DType.U8, (1,), "no type for U8"),
        ("w", DType.F32, (1, 1, 1, 1, 1), "of 5 dimensions"),
        ("w" * 128, DType.F32, (1,), "names of more than 127 bytes"),
    ],
)
def test_what_gguf_cannot_hold_is_named(
    name: str, dtype: DType, shape: tuple[int, ...], cause: str
) -> None:
    tensor = LazyTensor(dtype, shape, lambda: b"", f"model.ckpt: {name}")
    with pytest.raises(UnsupportedFile, match=cause) as raised:
        gguf_layout(StateDict({name: tensor}), some(), None)
    assert "model.ckpt" in str(raised.value.path)


def test_texts_that_are_no_unicode_are_refused() -> None:
    with pytest.raises(BadValue, match="not valid Unicode"):
        gguf_layout(StateDict({}, {"author": "\ud800"}), some(), None)
