"""Models in several files that came without some of them, told from names alone.

Each part is an asset, as each is a file that is downloaded, found by its hash and thrown away by
itself. That a part is missing, or what puts the parts together, shows only in the folder.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

from converters.errors import FileMissing
from converters.shard_names import Shard, indexed_by, shard_of

_NEEDS_INDEX = (".safetensors", ".bin")
_NAMED = 3
_HINT = "fetch what is missing, or the whole model again"


def incomplete(
    new: Iterable[str], there: Mapping[str, object], others: Mapping[str, frozenset[str]]
) -> Iterator[FileMissing]:
    """What is missing of the models that `new` files are parts of, once for each model.

    `there` are the paths of all model files, `others` the names of what else is in each folder.
    """
    models: defaultdict[str, set[Shard]] = defaultdict(set)
    for path in new:
        folder, name = os.path.split(path)
        if (part := shard_of(name)) is not None:
            models[folder].add(replace(part, number=1))  # all its parts are one here
    for folder, parts in models.items():
        indexed = {indexed_by(name) for name in others.get(folder, ())}
        for part in sorted(parts):
            yield from _lacking(folder, part, there)
            if part.whole.suffix in _NEEDS_INDEX and part.whole not in indexed:
                index = f"{part.whole.stem}{part.whole.suffix}.index.json"
                cause = f"is missing, which would put {part.count} parts together"
                yield FileMissing(cause, path=Path(folder, index), hint=_HINT)


def _lacking(folder: str, part: Shard, there: Mapping[str, object]) -> Iterator[FileMissing]:
    absent = (name for name in part.names if os.path.join(folder, name) not in there)  # noqa: PTH118
    named = list(islice(absent, _NAMED))
    if named:
        cause = f"is missing, one of {part.count} parts of a model"
        if named[1:]:
            more = " and others" if next(absent, None) else ""
            cause += f", like {', '.join(named[1:])}{more}"
        yield FileMissing(cause, path=Path(folder, named[0]), hint=_HINT)
