"""What a shell offers for the words of a call: files, names of assets, the words of a query.

A shell calls the program at each Tab, so only the first names are read, a library that is not there
is not made, and whatever is wrong with it offers nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from assetmgr.workspace import Workspace
from converters.errors import AssetmgrError

if TYPE_CHECKING:
    from registry.library import Library

_MOST = 100
"""So many names are offered."""

_COUNTED = frozenset({"kind", "base", "algorithm", "tag", "verdict", "safety"})
"""Filters whose values the library counts."""

_OF_BASH = re.compile(r"([^\w@%+./:=-])")
"""Characters that bash would take for its own."""

Items = list[CompletionItem]


def file(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Files, as the shell knows them."""
    return [CompletionItem(incomplete, type="file")]


def folder(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Folders, as the shell knows them."""
    return [CompletionItem(incomplete, type="dir")]


def asset(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Names of the library; files where none begins so."""
    is_path = not incomplete or incomplete.startswith((".", "~")) or os.sep in incomplete
    names = () if is_path else _asked(lambda library: library.names(incomplete, _MOST))
    return [*file(ctx, param, incomplete), *_items(names)]


def tagging(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Assets; tags after a plus."""
    if not incomplete.startswith("+"):
        return asset(ctx, param, incomplete)
    return _items("+" + tag for tag in _beginning(_values("tag"), incomplete[1:]))


def query(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Filters, and after a colon their values.

    For bash the colon is a word of its own, and what comes after it another.
    """
    before = [str(word) for word in ctx.params.get(param.name or "") or ()]
    if incomplete == ":":
        before, incomplete = [*before, ":"], ""
    if len(before) > 1 and before[-1] == ":":
        return _items(_beginning(_values(before[-2].lstrip("-")), incomplete))
    name, colon, value = incomplete.partition(":")
    if colon:
        return _items(f"{name}:{word}" for word in _beginning(_values(name), value))
    return _items(_filters(name))


def _filters(beginning: str) -> list[str]:
    """Filters that begin so; of a single one its values, or bash would end the word after it."""
    from registry.query.parser import FILTERS

    names = list(_beginning(FILTERS, beginning))
    values = [f"{names[0]}:{value}" for value in _values(names[0])] if len(names) == 1 else []
    return values or [f"{name}:" for name in names]


def _values(name: str) -> Iterable[str]:
    """The values of a filter that there are."""
    from registry.query.parser import STATES

    if name == "is":
        return STATES
    return _asked(lambda library: library.facets()[name]) if name in _COUNTED else ()


def _asked(ask: Callable[[Library], Iterable[str]]) -> Iterable[str]:
    try:
        with Workspace.open() as workspace:
            return ask(workspace.library) if workspace.has_library else ()
    except AssetmgrError:
        return ()


def _beginning(words: Iterable[str], incomplete: str) -> Iterator[str]:
    return (word for word in words if word.startswith(incomplete))


def _items(words: Iterable[str]) -> Items:
    """Words that a terminal can show, as the shell reads them."""
    is_bash = os.environ.get("_ASSETMGR_COMPLETE", "").startswith("bash")
    shown = (word for word in words if word.isprintable())
    # Twice, because click's function for bash reads what it is given without `read -r`.
    quoted = (_OF_BASH.sub(r"\\\\\1", word) if is_bash else word for word in shown)
    return [CompletionItem(word) for word in quoted]
