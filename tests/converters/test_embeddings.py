"""Textual inversions in every layout that occurs for SD1."""

from __future__ import annotations

import json

import pytest
from helpers.sd1 import Shapes, state_dict

from converters.embeddings import read_embedding
from converters.errors import CorruptFile, WrongFamily
from converters.extras import METADATA_KEY, extras_as_metadata, file_extras
from converters.statedict import Plain, StateDict


@pytest.mark.parametrize(
    ("shapes", "name", "vectors"),
    [
        ({"string_to_param.*": (3, 768)}, None, (3, 768)),
        ({"<cat>": (768,)}, "<cat>", (1, 768)),
        ({"<cat>": (2, 768)}, "<cat>", (2, 768)),
        ({"emb_params": (8, 768)}, None, (8, 768)),
        ({"clip_l": (8, 768)}, None, (8, 768)),
    ],
)
def test_vectors_are_found(shapes: Shapes, name: str | None, vectors: tuple[int, int]) -> None:
    embedding = read_embedding(state_dict(shapes))
    assert (embedding.name, embedding.vectors.shape) == (name, vectors)
    assert (embedding.count, embedding.width) == vectors


def test_what_an_a1111_file_says_about_itself_is_kept() -> None:
    said: dict[str, Plain] = {"name": "cat", "step": 500, "sd_checkpoint_name": "v1-5"}
    sd = StateDict(state_dict({"string_to_param.*": (3, 768)}).tensors, {}, said)
    embedding = read_embedding(sd)
    assert (embedding.name, embedding.step, embedding.trained_on) == ("cat", 500, "v1-5")


def test_converted_files_say_the_same() -> None:
    said: dict[str, Plain] = {"name": "cat", "step": 500, "raw": b"\0"}
    sd = state_dict({"string_to_param.*": (3, 768)}, metadata=extras_as_metadata(said))
    assert (read_embedding(sd).name, read_embedding(sd).step) == ("cat", 500)
    assert extras_as_metadata({}) == {}


@pytest.mark.parametrize("text", ["{", "[]", "3", json.dumps({"name": 3, "step": "x"})])
def test_attributes_that_do_not_parse_are_passed_over(text: str) -> None:
    sd = state_dict({"string_to_param.*": (3, 768)}, metadata={METADATA_KEY: text})
    embedding = read_embedding(sd)
    assert (embedding.name, embedding.step) == (None, None)
    assert isinstance(file_extras(sd), dict)


def test_the_pairs_of_sdxl_are_another_family() -> None:
    with pytest.raises(WrongFamily, match="SDXL"):
        read_embedding(state_dict({"clip_l": (2, 768), "clip_g": (2, 1280)}))


@pytest.mark.parametrize(
    "shapes", [{}, {"a": (2, 3)}, {"a": (768,), "b": (768,)}, {"emb_params": (1, 2, 768)}]
)
def test_files_without_token_vectors_are_refused(shapes: Shapes) -> None:
    with pytest.raises(CorruptFile, match="no token vectors"):
        read_embedding(state_dict(shapes))
