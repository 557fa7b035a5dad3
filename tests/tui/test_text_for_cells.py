"""Text from files is inert and fits its column."""

from __future__ import annotations

import doctest
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

import tui.text
from tui.text import fit, size, visible


def test_the_examples_of_the_module_hold() -> None:
    assert doctest.testmod(tui.text).failed == 0


@given(st.text())
def test_visible_text_holds_no_character_that_steers_a_terminal(text: str) -> None:
    shown = visible(text)
    assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in shown)


@given(st.text(alphabet=st.characters(exclude_categories=("C", "Z"))))
def test_visible_text_leaves_printable_characters_alone(text: str) -> None:
    assert visible(text) == text


@given(st.text(alphabet="ab[]麦橘 é"), st.integers(0, 30), st.booleans())
def test_fitted_text_takes_exactly_its_cells(text: str, width: int, right: bool) -> None:
    assert cell_len(fit(text, width, right=right)) == width


@pytest.mark.parametrize(
    ("nbytes", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (37_876_123, "37.9 MB"),
        (999_600_000, "1.00 GB"),
        (4_265_380_512_000, "4.27 TB"),
    ],
)
def test_sizes_are_decimal_with_three_digits(nbytes: int, shown: str) -> None:
    assert size(nbytes) == shown
