"""The CLIP tokenizer from package data: the ids that every Stable Diffusion was trained with."""

from __future__ import annotations

import pytest

from assetmgr.sampler.prompts.tokenizer import END, START, load_tokenizer


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a photo of an astronaut", [320, 1125, 539, 550, 18376]),
        ("A  Photo\nof an ASTRONAUT", [320, 1125, 539, 550, 18376]),
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("", []),
    ],
)
def test_known_texts_have_the_published_ids(text: str, ids: list[int]) -> None:
    assert load_tokenizer().encode(text) == [START, *ids, END]


def test_text_without_its_ends_can_be_asked_for_and_comes_back() -> None:
    tokenizer = load_tokenizer()
    ids = tokenizer.encode("red circle", add_special_tokens=False)
    assert START not in ids
    assert tokenizer.decode(ids).strip() == "red circle"
