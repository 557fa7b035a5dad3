"""The documentation says what the program does, and leads nowhere that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from docs.scripts.reference import _ASKS, _STATES, PAGES
from registry.query import parse
from registry.query.parser import FILTERS, STATES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SITE = yaml.safe_load((ROOT / ".ci" / "mkdocs.yml").read_text("utf-8"))


def pages(entries: list[object]) -> list[str]:
    found: list[str] = []
    for entry in entries:
        values = entry.values() if isinstance(entry, dict) else [entry]
        for value in values:
            found += pages(value) if isinstance(value, list) else [str(value)]
    return found


@pytest.mark.parametrize("name", PAGES)
def test_the_reference_is_what_the_code_says(name: str) -> None:
    kept = (DOCS / "reference" / name).read_text("utf-8")
    assert kept == PAGES[name](), "run: python -m docs.scripts.reference"


def test_every_filter_and_state_is_explained_by_an_example_that_means_something() -> None:
    assert _ASKS.keys() == FILTERS.keys()
    assert _STATES.keys() == STATES.keys()
    for example, _ in _ASKS.values():
        assert parse(example).terms


def test_every_page_is_in_the_navigation() -> None:
    there = {str(path.relative_to(DOCS).as_posix()) for path in DOCS.rglob("*.md")}
    assert there == set(pages(SITE["nav"]))


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_links_and_pictures_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def test_every_command_that_the_pages_show_exists() -> None:
    from assetmgr.cli.main import COMMANDS

    for page in DOCS.rglob("*.md"):
        for block in re.findall(r"```text\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            for name in re.findall(r"^assetmgr ([a-z]+)", block, re.MULTILINE):
                assert name in COMMANDS, f"{page.name}: {name}"
