"""Tab, filter text and order become one query."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tui.query import TABS, View, tab_counts


def test_a_kind_tab_narrows_what_is_typed() -> None:
    assert View(tab=2, text=" red ").query == "kind:lora red"


def test_the_last_tab_shows_every_kind_without_a_tab_of_its_own() -> None:
    query = View(tab=len(TABS) - 1).query
    assert query == "-kind:checkpoint -kind:lora -kind:embedding -kind:hypernetwork -kind:vae"


def test_the_same_order_again_turns_its_direction() -> None:
    assert View().sorted_by("name").order == "-name"
    assert View().sorted_by("name").sorted_by("name").order == "name"


def test_sizes_begin_with_the_greatest() -> None:
    assert View().sorted_by("size").order == "-size"


@given(st.integers(0, len(TABS) - 1), st.integers(-20, 20))
def test_turning_tabs_there_and_back_is_no_change(tab: int, steps: int) -> None:
    view = replace(View(), tab=tab)
    assert view.turned(steps).turned(-steps) == view


@given(
    st.dictionaries(
        st.sampled_from(["checkpoint", "lora", "vae", "unknown", "controlnet"]), st.integers(0, 99)
    )
)
def test_the_tabs_together_count_every_asset_once(kinds: dict[str, int]) -> None:
    total, *parts = tab_counts(kinds)
    assert total == sum(parts) == sum(kinds.values())
