"""Embeddings in every form: whatever the way between them, they come out as they were."""

from __future__ import annotations

import pytest
import torch
from helpers.adapters import adapter, lazy
from helpers.examples import examples
from helpers.sd1 import kohya_modules, lora_shapes, state_dict
from hypothesis import given
from hypothesis import strategies as st

from converters.bytesource import MemoryBytes
from converters.compute import buffer, value
from converters.containers import open_model
from converters.embedding_forms import FORMS, bundled, in_form, inversions_in, joined
from converters.embeddings import read_embedding, read_vectors
from converters.errors import AssetmgrError, CorruptFile, UnsupportedFile, WrongFamily
from converters.extras import extras_as_metadata
from converters.identify import Kind, identify
from converters.statedict import StateDict
from converters.writers.embedding_image import embedding_image, seen_in_image

PAIR_FORM = "clip_l+clip_g"
TYPES = (torch.float32, torch.float16, torch.bfloat16)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


def vectors(count: int, width: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count * width)
    return torch.randn(count, width, generator=generator).to(dtype)


def stored(tensors: dict[str, torch.Tensor], name: str | None = None) -> StateDict:
    """A file of these tensors, that says what it is called."""
    file = adapter(tensors)
    return StateDict(file.tensors, {}, {} if name is None else {"name": name, "step": 7})


def as_saved(state: StateDict) -> StateDict:
    """What a safetensors file keeps."""
    return StateDict(state.tensors, extras_as_metadata(state.extras))


@given(
    NAMES,
    st.integers(1, 5),
    st.sampled_from([768, 1024, 1280]),
    st.sampled_from(TYPES),
    st.lists(st.sampled_from(["a1111", "diffusers", "emb_params", "tensor"]), max_size=4),
)
@examples(60)
def test_any_way_through_the_forms_gives_the_embedding_back(
    name: str, count: int, width: int, dtype: torch.dtype, way: list[str]
) -> None:
    first = stored({"string_to_param.*": vectors(count, width, dtype)}, name)
    state = first
    for form in [*way, "a1111"]:
        (inversion,) = inversions_in(state, "file")
        state = as_saved(in_form(inversion, form))
        if form != "tensor":
            assert identify(state).kind is Kind.EMBEDDING
    assert list(state) == ["string_to_param.*"]
    found = read_embedding(state)
    assert (found.name, found.step) == (name, 7)
    assert bytes(found.vectors.read()) == bytes(first["string_to_param.*"].read())
    assert found.vectors.dtype is first["string_to_param.*"].dtype


@given(st.integers(1, 4), st.sampled_from(TYPES))
@examples(15)
def test_a_pair_is_split_and_joined_again(count: int, dtype: torch.dtype) -> None:
    pair = {"clip_l": vectors(count, 768, dtype), "clip_g": vectors(count, 1280, dtype)}
    (inversion,) = inversions_in(stored(pair), "fox")
    halves = inversion.split()
    assert [(half.name, half.widths) for half in halves] == [
        ("fox.clip_l", (768,)),
        ("fox.clip_g", (1280,)),
    ]
    files = [in_form(half, "emb_params") for half in halves]
    read = [inversions_in(as_saved(file), "x")[0] for file in files]
    for order in (read, read[::-1]):
        again = joined(order)
        assert again.extras["name"] == "fox"
        assert {n: bytes(t.read()) for n, t in again.items()} == {
            name: bytes(buffer(tensor)) for name, tensor in pair.items()
        }


def _lora() -> StateDict:
    return state_dict(lora_shapes(dict(list(kohya_modules().items())[:2])))


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), min_size=1, max_size=4))
@examples(25)
def test_what_is_bundled_in_an_adapter_comes_out_as_it_went_in(
    chosen: list[tuple[str, bool]],
) -> None:
    given_ = {}
    for word, is_pair in chosen:
        tensors = {"clip_l": vectors(2, 768), "clip_g": vectors(2, 1280)}
        given_[word] = stored(tensors if is_pair else {"<t>": vectors(3, 768)}, word)
    inversions = [inversions_in(state, "x")[0] for state in given_.values()]
    if not all(one.name in given_ for one in inversions):
        inversions = [
            type(one)(word, one.vectors) for word, one in zip(given_, inversions, strict=True)
        ]
    bundle = bundled(_lora(), inversions)
    assert identify(bundle).kind is Kind.LORA
    assert set(identify(bundle).trigger_words) == set(given_)
    out = inversions_in(bundle, "x")
    assert [one.name for one in out] == list(given_)
    for before, after in zip(inversions, out, strict=True):
        assert [bytes(t.read()) for t in before.vectors] == [bytes(t.read()) for t in after.vectors]


def test_several_tokens_are_one_file_of_diffusers() -> None:
    a, b = (stored({word: vectors(1, 768)}) for word in ("<a>", "<b.2>"))
    file = joined([*inversions_in(a, "x"), *inversions_in(b, "x")])
    identity = identify(file)
    assert (identity.kind, identity.layout) == (Kind.EMBEDDING, "diffusers")
    assert identity.trigger_words == ("<a>", "<b.2>")
    assert [one.name for one in inversions_in(file, "x")] == ["<a>", "<b.2>"]


@pytest.mark.parametrize("dtype", TYPES)
def test_a_picture_holds_the_values(dtype: torch.dtype) -> None:
    first = stored({"string_to_param.*": vectors(2, 768, dtype)}, "kitty é")
    data = embedding_image(first)
    model = open_model(MemoryBytes(data, "kitty.png"))
    found = read_embedding(model.state_dict)
    assert (found.name, found.step) == ("kitty é", 7)
    assert torch.equal(value(found.vectors), value(first["string_to_param.*"]).float())
    (seen,) = seen_in_image(first).values()
    assert bytes(seen.read()) == bytes(found.vectors.read())


HELD_BY = {
    768: {"a1111", "diffusers", "emb_params", "clip_l", "tensor"},
    1024: {"a1111", "diffusers", "emb_params", "tensor"},
    1280: {"a1111", "diffusers", "emb_params", "clip_g", "tensor"},
    2048: {PAIR_FORM},
}


@pytest.mark.parametrize("width", HELD_BY)
def test_a_form_of_other_encoders_is_refused_with_the_way_out(width: int) -> None:
    tensors = {"emb_params": vectors(2, width)}
    if width == 2048:
        tensors = {"clip_l": vectors(2, 768), "clip_g": vectors(2, 1280)}
    (inversion,) = inversions_in(stored(tensors), "fox")
    for form in FORMS:
        if form in HELD_BY[width]:
            assert in_form(inversion, form)
            continue
        with pytest.raises(UnsupportedFile, match="fox has vectors of width") as caught:
            in_form(inversion, form)
        assert (caught.value.hint is None) == (width == 1024)


def _of(name: str, **tensors: torch.Tensor) -> StateDict:
    return stored(dict(tensors), name)


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (_of("a", clip_l=vectors(2, 768)), _of("b", clip_g=vectors(3, 1280)), "as many"),
        (_of("a", clip_l=vectors(2, 768)), _of("b", emb_params=vectors(2, 1024)), "width 1024"),
        (_of("a", clip_l=vectors(2, 768)), _of("a", clip_l=vectors(2, 768)), "two .* named <?a"),
    ],
)
def test_what_does_not_belong_together_is_not_joined(
    one: StateDict, other: StateDict, words: str
) -> None:
    with pytest.raises(WrongFamily, match=words):
        joined([*inversions_in(one, "x"), *inversions_in(other, "x")])


def test_two_embeddings_of_one_name_are_not_bundled() -> None:
    (fox,) = inversions_in(stored({"emb_params": vectors(1, 768)}, "fox"), "x")
    with pytest.raises(WrongFamily, match="named fox"):
        bundled(bundled(_lora(), [fox]), [fox])


@pytest.mark.parametrize(
    "shapes",
    [
        {"clip_l": (2, 768), "t5": (2, 4096)},
        {"emb_params": (2, 768), "other": (2, 768)},
        {"string_to_param.a": (2, 768), "string_to_param.b": (2, 768)},
        {"clip_l": (2, 768), "clip_g": (2, 1280), "t5": (2, 4096)},
    ],
)
def test_vectors_beside_others_are_never_dropped(shapes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises((CorruptFile, WrongFamily)):
        inversions_in(state_dict(shapes), "x")
    with pytest.raises(AssetmgrError):
        read_vectors(state_dict(shapes))


def test_a_bundled_tensor_without_a_name_is_refused() -> None:
    with pytest.raises(CorruptFile, match="names no embedding"):
        inversions_in(state_dict({"bundle_emb.fox": (2, 768)}), "x")


def test_a_lone_vector_is_one_row() -> None:
    (found,) = inversions_in(StateDict({"<cat>": lazy(torch.ones(768))}), "x")
    assert (found.name, found.vectors[0].shape) == ("<cat>", (1, 768))
