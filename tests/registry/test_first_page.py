"""The first rows of a list, asked of the file alone: what the library gives, or nothing."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from small_models import scanned

from registry.library import Library
from registry.records import Preview
from registry.searching import first_page as asked
from registry.searching.first_page import first_page

KINDS = ("lora", "vae", "checkpoint")
BASES = ("sd-1", "sdxl")
WORDS = ("fox", "Füchse", "STRASSE", "fox tails", "owl_50%")
QUERIES = (
    *("", "kind:lora", "kind:vae base:sdxl", "base:sd-1", "fox", "FOX tails", "straße"),
    *("kind:lora fox", "füchse base:sd-1", "owl_50%", "m12.pt", "it's", "wip"),
)
ELSEWHERE = (
    *('"fox tails"', "-fox", "-kind:lora", "ki", "tag:wip", "size:>1", "kind:", "kind:LORA", "a:b"),
    *('fo"x', "nothing-has-this", "kind:none", "-", '"'),
)
"""What the library is asked."""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("first page") / "library #1.db"


@pytest.fixture(scope="module")
def library(database: Path) -> Iterator[Library]:
    with Library.open(f"sqlite:///{database}") as opened:
        for number in range(1, 31):
            kind, base = KINDS[number % 3], BASES[number % 2]
            words, path = (WORDS[number % 5], "it's"), f"/{number % 4}/m{number}.pt"
            opened.record_file(scanned(number, path, kind=kind, base=base, trigger_words=words))
        opened.tag([3, 4, 5], ["wip", "two words"])
        opened.rate(7, 4)
        opened.record_preview(9, Preview("/p", "/t", 1, "", "ok"))
        yield opened


@pytest.mark.parametrize("few", [0, 5_000])
@pytest.mark.parametrize("query", QUERIES)
def test_it_gives_what_the_library_gives(
    library: Library, database: Path, monkeypatch: pytest.MonkeyPatch, query: str, few: int
) -> None:
    """Whether assets are met one by one, or looked up."""
    monkeypatch.setattr(asked, "_FEW", few)
    for sort, (limit, offset) in itertools.product(
        ("name", "-name", "size", "-size", "added", "-added"),
        ((None, 0), (4, 0), (4, 3), (9, 40), (0, 0)),
    ):
        found = first_page(database, query, sort, limit, offset)
        assert found == library.search(query, sort=sort, limit=limit, offset=offset)
        assert found is not None
        assert found.total > 0


@pytest.mark.parametrize("query", ELSEWHERE)
def test_other_queries_and_pages_of_nothing_are_left_to_the_library(
    library: Library, database: Path, query: str
) -> None:
    assert library.search().total
    assert first_page(database, query, "name", 5, 0) is None


def test_other_orders_and_long_lists_are_left_to_the_library(
    library: Library, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert library.search().total == 30
    assert first_page(database, "", "rating", 5, 0) is None
    assert first_page(database, "", "none", 5, 0) is None
    assert first_page(database, "", "name", 5, 1_000) is None
    monkeypatch.setattr(asked, "MOST", 29)
    assert first_page(database, "", "name", None, 0) is None


def test_of_what_is_no_library_of_this_version_nothing_is_told_or_made(tmp_path: Path) -> None:
    path = tmp_path / "library.db"
    assert first_page(path, "", "name", 5, 0) is None
    assert not path.exists()
    for content in (b"", b"no database" * 100):
        path.write_bytes(content)
        assert first_page(path, "", "name", 5, 0) is None
        assert path.read_bytes() == content
    path.unlink()
    with Library.open(f"sqlite:///{path}") as opened:
        opened.record_file(scanned(1, "/m/fox.pt"))
    assert first_page(path, "", "name", 5, 0) is not None
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999_newer'")
    assert first_page(path, "", "name", 5, 0) is None
