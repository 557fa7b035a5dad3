"""One model in several files, put together by an index that says which file holds which tensor.

`{"metadata": {...}, "weight_map": {tensor: file}}`, the files beside the index. Source:
huggingface/transformers and huggingface/diffusers, `*.safetensors.index.json`,
`pytorch_model.bin.index.json`, with a variant also `*.safetensors.index.<variant>.json`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath, PurePosixPath

from converters.bytesource import ByteSource, WithNeighbours
from converters.containers.model import Container, Model
from converters.containers.strict_json import BadJson, parse_object, short
from converters.errors import CorruptFile, FileMissing, FileUnreadable, UnsupportedFile
from converters.pickles.verdict import together
from converters.statedict import LazyTensor, Plain, StateDict

MAX_INDEX = 4 << 20
"""Bytes of an index; the largest image models' have half a megabyte."""
MAX_SHARDS = 512
"""Files of one model: each stays open as long as the model."""

_INDEX_NAME = re.compile(r".+\.index(\.[\w-]+)?\.json", re.IGNORECASE)

OpenShard = Callable[[ByteSource], Model]


def read_sharded(source: ByteSource, open_shard: OpenShard) -> Model:
    """Open the model of an index from the headers of its shards.

    Raises UnsupportedFile for JSON that is no index, CorruptFile when the index contradicts its
    shards or leads out of its folder, FileMissing for a shard, and what opening a shard raises.
    """
    places = _weight_map(source)
    if not isinstance(source, WithNeighbours):
        raise UnsupportedFile(
            "is the index of a model in several files, which is only read where they lie",
            path=source.name,
        )
    shards = {name: _open(source, name, open_shard) for name in dict.fromkeys(places.values())}
    tensors = {name: _tensor(source, shards[file], name, file) for name, file in places.items()}
    return Model(
        path=source.name,
        nbytes=source.size + sum(shard.nbytes for shard in shards.values()),
        container=_container(source, shards),
        state_dict=StateDict(tensors, _metadata(shards), _extras(shards)),
        safety=together({name: shard.safety for name, shard in shards.items()}),
        problems=tuple(_problems(places, shards)),
        ignored=tuple(dict.fromkeys(name for s in shards.values() for name in s.ignored)),
    )


def index_in(folder: str | os.PathLike[str]) -> Path | None:
    """The only index in a folder, None where there is none. Raises FileUnreadable for several."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if _INDEX_NAME.fullmatch(entry.name))
    except OSError as error:
        cause = error.strerror or str(error)
        raise FileUnreadable(f"cannot be opened: {cause}", path=folder) from error
    if len(names) > 1:
        raise FileUnreadable(
            f"is a folder with several indexes: {', '.join(names)}",
            path=folder,
            hint="name one of them",
        )
    return Path(folder, names[0]) if names else None


def _weight_map(source: ByteSource) -> dict[str, str]:
    """Tensor -> file, as the index has it."""
    data = source.pread(0, min(source.size, MAX_INDEX))
    if b'"weight_map"' not in data:
        raise UnsupportedFile("is JSON text, which is not read", path=source.name)
    if len(data) < source.size:
        raise CorruptFile(f"its index is longer than {MAX_INDEX >> 20} MB", path=source.name)
    try:
        places = parse_object(data).get("weight_map")
    except BadJson as error:
        raise CorruptFile(f"its index {error}", path=source.name) from None
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise CorruptFile("its weight_map is not an object of file names", path=source.name)
    files = set(places.values())
    if len(files) > MAX_SHARDS:
        raise CorruptFile(f"its weight_map names more than {MAX_SHARDS} files", path=source.name)
    for file in sorted(files):
        if not _is_inside(file):
            raise CorruptFile(
                f"its weight_map names {short(file)}, which is no file in its folder",
                path=source.name,
            )
    return places


def _is_inside(file: str) -> bool:
    """A relative path without detours, as every system reads it."""
    parts = PurePosixPath(file).parts
    return (
        bool(parts)
        and not {"..", "/", "//"} & {*parts}
        and not any(character in "\\:" or character < " " for character in file)
    )


def _open(index: WithNeighbours, name: str, open_shard: OpenShard) -> Model:
    place = PurePath(index.name)
    try:
        return open_shard(index.beside(name))
    except FileMissing:
        raise FileMissing(
            f"no such file, though {place.name} names it as a part of the model",
            path=place.parent / name,
            hint="fetch the missing file, or the whole model again",
        ) from None


def _tensor(index: ByteSource, shard: Model, name: str, file: str) -> LazyTensor:
    tensor = shard.state_dict.get(name)
    if tensor is None:
        raise CorruptFile(
            f"its weight_map places tensor {short(name)} in {short(file)}, which lacks it",
            path=index.name,
        )
    return tensor


def _container(index: ByteSource, shards: Mapping[str, Model]) -> Container:
    kinds = {shard.container for shard in shards.values()}
    if len(kinds) > 1:
        raise CorruptFile("its shards are not all of one format", path=index.name)
    return (
        Container.SHARDED_SAFETENSORS
        if kinds <= {Container.SAFETENSORS}
        else (Container.SHARDED_TORCH)
    )


def _metadata(shards: Mapping[str, Model]) -> dict[str, str]:
    """All texts; of a key in several shards the first value."""
    found: dict[str, str] = {}
    for shard in shards.values():
        found = {**shard.state_dict.metadata, **found}
    return found


def _extras(shards: Mapping[str, Model]) -> dict[str, Plain]:
    found: dict[str, Plain] = {}
    for shard in shards.values():
        found = {**shard.state_dict.extras, **found}
    return found


def _problems(places: Mapping[str, str], shards: Mapping[str, Model]) -> list[str]:
    found: list[str] = []
    for file, shard in shards.items():
        found += [f"{file}: {problem}" for problem in shard.problems]
        unnamed = sum(places.get(name) != file for name in shard.state_dict)
        if unnamed:
            found.append(f"{file}: {unnamed} tensors are not in the index and were left out")
    return found
