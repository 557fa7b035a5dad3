"""What the screens remember between two starts: looks, the last view, and saved searches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING

from converters.errors import BadValue
from converters.writers.atomic import write_whole

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

MOST_SEARCHES = 500
_MOST_BYTES = 1 << 20
_GREATEST = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class SavedSearch:
    """A query of the library with a name and an order ("-size" descends)."""

    name: str
    query: str
    sort: str = "name"


@dataclass(frozen=True, slots=True)
class Preferences:
    """All of it. `kind` is the word of the kind tab ("" for all); `sort` as for a search.

    The cursor stood in `row` on `asset` (0: none), whose details were shown from `line` on.
    """

    theme: str = ""
    kind: str = ""
    query: str = ""
    sort: str = "name"
    facets: bool = False
    tiles: bool = False
    row: int = 0
    asset: int = 0
    line: int = 0
    welcomed: bool = False
    searches: tuple[SavedSearch, ...] = ()

    def with_search(self, search: SavedSearch) -> Preferences:
        """With one more search; one of the same name is replaced. Raises BadValue."""
        if not search.name.strip():
            raise BadValue("a saved search needs a name")
        others = self.without_search(search.name).searches
        if len(others) >= MOST_SEARCHES:
            raise BadValue(f"there are {MOST_SEARCHES} saved searches already")
        return replace(self, searches=(*others, search))

    def without_search(self, name: str) -> Preferences:
        """Without the search of that name."""
        kept = tuple(search for search in self.searches if search.name != name)
        return replace(self, searches=kept)


def load_preferences(workspace: Workspace) -> Preferences:
    """What was kept; what is missing or makes no sense there is as on the first start."""
    try:
        with workspace.paths.preferences.open("rb") as file:
            document = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return Preferences()
    if not isinstance(document, dict):
        return Preferences()
    searches = document.pop("searches", None)
    plain = _values(Preferences, document)
    return replace(Preferences(**plain), searches=tuple(_searches(searches)))  # type: ignore[arg-type]


def keep_preferences(workspace: Workspace, preferences: Preferences) -> None:
    """Write them down. Raises WriteProblem."""
    text = json.dumps(asdict(preferences), ensure_ascii=False, indent=2)
    write_whole(workspace.paths.preferences, text.encode("utf-8", "replace"), overwrite=True)


def _searches(found: object) -> list[SavedSearch]:
    entries = found[:MOST_SEARCHES] if isinstance(found, list) else []
    given = [_values(SavedSearch, entry) for entry in entries if isinstance(entry, dict)]
    return [SavedSearch(**each) for each in given if {"name", "query"} <= each.keys()]  # type: ignore[arg-type]


def _values(
    kind: type[Preferences | SavedSearch], document: Mapping[object, object]
) -> dict[str, object]:
    """The values whose types are those of the fields."""
    types = {"bool": bool, "str": str, "int": int}
    wanted = {
        field.name: types[str(field.type)] for field in fields(kind) if str(field.type) in types
    }
    return {
        name: document[name]
        for name, expected in wanted.items()
        if isinstance(document.get(name), expected) and _is_sane(document[name])
    }


def _is_sane(value: object) -> bool:
    """A number that no database takes would end the next start."""
    return not isinstance(value, int) or 0 <= value <= _GREATEST
