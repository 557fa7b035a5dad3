"""First rows without waiting: never others than those that a search finds, and never late."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from unittest.mock import patch

import pytest
from helpers.examples import examples
from hypothesis import given
from hypothesis import strategies as st
from small_models import scanned

import registry.searching.at_once
import registry.searching.beginning
import registry.storage.stopping
from converters.errors import BadValue
from registry.library import Library
from registry.searching.at_once import AtOnce

NAMES = ("a", "aa", "ab", "ba", "bab", "abab", "b b", "aab.b", "bbb", "abba", "é", "ÉA")
PIECES = (
    "a",
    "b",
    "ab",
    "aba",
    "é",
    " ",
    "size:>3",
    "kind:vae",
    "-kind:lora",
    "tag:t",
    "-",
    "a.pt",
)
SORTS = ("name", "-name", "size", "-added", "-id", "rating")
LIMIT = 2


@pytest.fixture
def patient():
    """No search takes too long."""
    with patch.object(registry.searching.at_once, "SECONDS", 600):
        yield


def _add(library: Library, number: int) -> None:
    name, kind = NAMES[number % len(NAMES)], ("lora", "vae")[number % 2]
    file = scanned(number, f"/m/{number}/{name}.pt", kind=kind)
    added = library.record_file(replace(file, bytes=number % 7))
    if number % 3 == 0:
        library.tag([added.id], add=["t"])


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Assets whose names have the same letters."""
    file = tmp_path_factory.mktemp("at once") / "library.db"
    with Library.open(f"sqlite:///{file}") as opened:
        for number in range(1, 25):
            _add(opened, number)
        yield opened


typed = st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join)


@examples(40)
@given(texts=st.lists(typed, min_size=1, max_size=3), sort=st.sampled_from(SORTS))
def test_letter_by_letter_they_are_the_rows_that_a_search_finds(library, texts, sort):
    at_once = AtOnce(library._database)
    with (
        patch.object(registry.searching.at_once, "SECONDS", 600),
        patch.object(registry.searching.beginning, "_NEAR", 3),
    ):
        for text in texts:
            for end in range(1, len(text) + 1):
                _agrees(library, at_once, text[:end], sort)


def _agrees(library: Library, at_once: AtOnce, query: str, sort: str) -> None:
    try:
        found = library.search(query, sort=sort)
    except BadValue:
        with pytest.raises(BadValue):
            at_once.beginning(query, sort, LIMIT)
        return
    first = at_once.beginning(query, sort, LIMIT)
    assert first is not None
    assert first.rows == found.rows[:LIMIT]
    assert first.total in {None, found.total}


def test_what_was_added_between_two_letters_is_found(tmp_path, patient):
    with Library.open(f"sqlite:///{tmp_path / 'library.db'}") as library:
        for number in (2, 3):
            library.record_file(scanned(number, f"/m/ink {number}.pt"))
        for query, found in (("in", ["ink 1"]), ("wash", ["a wash"])):
            assert len(library.at_once.beginning(query[:1], "name", 1).rows) == (query != "wash")
            library.record_file(scanned(ord(query[0]), f"/m/{found[0]}.pt"))
            rows = library.at_once.beginning(query, "name", 1).rows
            assert [row.name for row in rows] == found


def test_a_search_that_takes_too_long_is_left_to_who_may_wait(library):
    with (
        patch.object(registry.searching.at_once, "SECONDS", -1),
        patch.object(registry.storage.stopping, "_FEW_STEPS", 1),
    ):
        assert AtOnce(library._database).beginning("a", "name", LIMIT) is None


def test_after_one_that_took_too_long_none_is_tried_for_a_while(library, patient):
    at_once = AtOnce(library._database)
    moments = iter((0.0, 0.1, 1.0))
    with patch.object(registry.searching.at_once.time, "monotonic", lambda: next(moments, 1.2)):
        with patch.object(
            at_once, "_beginning", side_effect=registry.searching.at_once.LibraryUnusable("x")
        ):
            assert at_once.beginning("a", "name", LIMIT) is None
        assert at_once.beginning("a", "name", LIMIT) is None
        assert at_once.beginning("a", "name", LIMIT) is not None


def test_a_lock_of_another_program_is_not_waited_for(tmp_path, patient):
    file = tmp_path / "library.db"
    url = f"sqlite:///{file}"
    Library.open(url).close()
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("PRAGMA journal_mode = DELETE")  # there writers keep readers out
    with Library.open(url) as library:
        assert library.at_once.beginning("", "name", LIMIT) is not None
        other.execute("BEGIN EXCLUSIVE")
        assert library.at_once.beginning("", "name", LIMIT) is None
        other.execute("ROLLBACK")
    other.close()


def test_a_library_in_memory_has_threads_of_its_own_to_wait_in():
    with Library.open("sqlite:///:memory:") as library:
        assert library.at_once.beginning("", "name", LIMIT) is None
