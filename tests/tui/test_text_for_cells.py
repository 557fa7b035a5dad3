"""Text from files is inert and fits its column."""

from __future__ import annotations

import doctest

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

import assetmgr.text
import tui.text
from tui.text import fit


def test_the_examples_of_the_module_hold() -> None:
    for module in (assetmgr.text, tui.text):
        assert doctest.testmod(module).failed == 0


@given(st.text(alphabet="ab[]麦橘 é"), st.integers(0, 30), st.booleans())
def test_fitted_text_takes_exactly_its_cells(text: str, width: int, right: bool) -> None:
    assert cell_len(fit(text, width, right=right)) == width
