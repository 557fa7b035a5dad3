"""The emphasis grammar of prompts."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetmgr.sampler.prompts.emphasis import Span, escape, parse_emphasis


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", []),
        ("a red circle", [("a red circle", 1)]),
        ("a (red) circle", [("a ", 1), ("red", 1.1), (" circle", 1)]),
        ("((red))", [("red", 1.21)]),
        ("[red]", [("red", 1 / 1.1)]),
        ("(red:1.5)", [("red", 1.5)]),
        ("(red: .5 )", [("red", 0.5)]),
        ("(a (b:2) c:3)", [("a ", 3), ("b", 6), (" c", 3)]),
        (r"\(red\)", [("(red)", 1)]),
        ("(red", [("red", 1.1)]),
        ("[red", [("red", 1 / 1.1)]),
        ("red)", [("red)", 1)]),
        ("a: b", [("a: b", 1)]),
        ("(a: b)", [("a: b", 1.1)]),
        ("a\nb", [("a b", 1)]),
        ("[(a)b]", [("a", 1), ("b", 1 / 1.1)]),
    ],
)
def test_brackets_give_weights_to_what_they_hold(
    prompt: str, expected: list[tuple[str, float]]
) -> None:
    spans = parse_emphasis(prompt)
    assert [span.text for span in spans] == [text for text, _ in expected]
    for span, (_, weight) in zip(spans, expected, strict=True):
        assert math.isclose(span.weight, weight)


@given(st.text(alphabet="ab ,.", min_size=1))
def test_text_without_brackets_is_one_span_of_weight_one(text: str) -> None:
    assert parse_emphasis(text) == (Span(text, 1.0),)


@given(st.text(alphabet="ab()[]:.12\\ "))
def test_any_text_parses_and_no_letter_is_lost(text: str) -> None:
    letters = "".join(span.text for span in parse_emphasis(text))
    assert [c for c in letters if c in "ab"] == [c for c in text if c in "ab"]


@given(st.text(alphabet="ab()[]:.12\\ ", min_size=1))
def test_escaped_text_means_itself(text: str) -> None:
    assert parse_emphasis(escape(text)) == (Span(text, 1.0),)
