"""Which files of a repository are meant: by name, folder, pattern and variant.

Patterns are those of huggingface_hub (`filter_repo_objects`): `*` also matches `/`, and a folder's
name with a slash stands for all in it. Variants are named as diffusers does:
`model.fp16.safetensors`, `model.fp16-00001-of-00002.safetensors`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from converters.errors import BadValue, FileMissing
from converters.shard_names import Shard, shard_of
from converters.suffixes import MODEL_SUFFIXES

_MOST_SHARDS = 1000
"""More than anyone has; a name may pretend anything."""
_INDEX = re.compile(r"(.+)\.\w+\.index(?:\.([\w-]+))?\.json")
_CONFIG = "config.json"
_VARIANT = re.compile(r"[\w-]+")


@dataclass(frozen=True, slots=True)
class Selection:
    """What is wanted of a repository; nothing at all means its models, each of them whole.

    `names` are files, folders and patterns, each of which has to be there; `include` and `exclude`
    are patterns. Where a file has the `variant`, the same file without it and with others goes.
    """

    names: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    variant: str | None = None

    @property
    def needs_listing(self) -> bool:
        """Whether it can only be told from all names of a repository."""
        plain = self.names and not any(_is_pattern(name) for name in self.names)
        return not plain or bool(self.include or self.exclude or self.variant)


def meant(files: Sequence[str], wanted: Selection, repo: str) -> tuple[str, ...]:
    """The names that are meant: plain ones as they are, whether they are listed or not.

    Raises FileMissing, BadValue.
    """
    is_plain = not wanted.needs_listing and not any(_below(files, name) for name in wanted.names)
    return wanted.names if is_plain else select(files, wanted, repo)


def select(files: Sequence[str], wanted: Selection, repo: str) -> tuple[str, ...]:
    """The names that are meant, in the repository's order. Raises FileMissing, BadValue."""
    chosen = _named(files, wanted, repo)
    if wanted.include:
        chosen &= _matching(files, wanted.include)
    chosen -= _matching(files, wanted.exclude)
    if wanted.variant is not None:
        chosen -= _other_variants([name for name in files if name in chosen], wanted.variant, repo)
    if not (wanted.names or wanted.include):
        chosen |= _put_together_by(files, chosen) - _matching(files, wanted.exclude)
    if not chosen:
        what = "model files" if wanted == Selection() else "such files"
        raise FileMissing(f"the repository has no {what}", path=repo)
    return tuple(name for name in files if name in chosen)


def _named(files: Sequence[str], wanted: Selection, repo: str) -> set[str]:
    if not wanted.names:
        return set(files) if wanted.include else {name for name in files if is_model(name)}
    chosen: set[str] = set()
    for name in wanted.names:
        found = {name} & set(files) or _below(files, name) or _matching(files, [name])
        if not found:
            raise FileMissing("the repository has no such file", path=f"{repo}/{name}")
        chosen |= found
    return chosen


def several(names: Iterable[str]) -> frozenset[str]:
    """The names that are of models in several files: shards, indexes, configurations beside them.

    They have to stay together, below folders of their own names.
    """
    there = frozenset(names)
    found = {name for name in there if _is_shard(name) or _INDEX.fullmatch(name)}
    return frozenset(found | _configurations(there, found))


def shards_with(name: str) -> tuple[str, ...]:
    """All parts of the model that a file is a part of, as their numbers say; else none."""
    shard = _shard(name)
    if shard is None or shard.count > _MOST_SHARDS:
        return ()
    return tuple(_folder(name) + each for each in shard.names)


def whole_model(files: Sequence[str], name: str) -> tuple[str, ...]:
    """All files of the model that a file is a part of, or the index of; of others itself alone."""
    stem = _stem(name) if _is_shard(name) else _indexed(name)
    shards = {file for file in files if _is_shard(file) and _stem(file) == stem}
    whole = {name} | shards | _put_together_by(files, shards)
    return tuple(file for file in files if file in whole)


def _put_together_by(files: Sequence[str], chosen: Iterable[str]) -> set[str]:
    """The indexes of the shards that are chosen, and the configurations beside them."""
    shards = {name for name in chosen if _is_shard(name)}
    stems = {_stem(name) for name in shards}
    indexes = {name for name in files if _indexed(name) in stems}
    return indexes | _configurations(files, shards)


def _configurations(files: Iterable[str], beside: Iterable[str]) -> set[str]:
    return {f"{_folder(name)}{_CONFIG}" for name in beside} & {*files}


def _indexed(name: str) -> str | None:
    """What the shards of an index are called; a variant stands before its ending."""
    found = _INDEX.fullmatch(name)
    return None if found is None else ".".join(filter(None, found.groups()))


def is_model(name: str) -> bool:
    """Whether a name is that of a model file."""
    return PurePosixPath(name).suffix.lower() in MODEL_SUFFIXES


def _is_shard(name: str) -> bool:
    return _shard(name) is not None


def _shard(name: str) -> Shard | None:
    return shard_of(PurePosixPath(name).name) if is_model(name) else None


def _folder(name: str) -> str:
    """With its slash; empty at the top."""
    return "".join(name.rpartition("/")[:2])


def _is_pattern(name: str) -> bool:
    return name.endswith("/") or any(mark in name for mark in "*?[")


def _below(files: Iterable[str], folder: str) -> set[str]:
    return {name for name in files if name.startswith(f"{folder.rstrip('/')}/")}


def _matching(files: Iterable[str], patterns: Iterable[str]) -> set[str]:
    whole = [f"{pattern}*" if pattern.endswith("/") else pattern for pattern in patterns]
    return {name for name in files if any(fnmatchcase(name, pattern) for pattern in whole)}


def _other_variants(names: Sequence[str], variant: str, repo: str) -> set[str]:
    """The files of which the same is there in the variant."""
    if not _VARIANT.fullmatch(variant):
        raise BadValue("is no name of a variant, such as fp16", path=variant)
    ending = f".{variant}"
    bases = {stem.removesuffix(ending) for name in names if (stem := _stem(name)).endswith(ending)}
    if not bases:
        raise FileMissing(f"the repository has no files of the variant {variant}", path=repo)
    return {
        name
        for name in names
        if is_model(name)
        and not _stem(name).endswith(ending)
        and any(_stem(name) == base or _stem(name).startswith(f"{base}.") for base in bases)
    }


def _stem(name: str) -> str:
    """Folder and name without number of the part and suffix."""
    shard = shard_of(PurePosixPath(name).name)
    whole = name.removesuffix(PurePosixPath(name).suffix)
    return whole if shard is None else _folder(name) + shard.whole.stem
