"""The files beside a model that say something of it: one row per program, one module per row.

To add a program: a module with `OWNER` and `read`, and a row in `ROWS`. Reading is pure and never
fails: what is wrong with a file is among the `problems` of its `Sidecar`. Names and meanings:
the sources that each module names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from converters.bytesource import FileBytes
from converters.errors import FileMissing, FileProblem
from registry.document import MAX_BYTES, BadDocument, Fields, clean
from registry.sidecars import (
    a1111,
    checksum,
    civitai_info,
    description,
    hanakura,
    lora_manager,
    model_config,
    picture,
    rgthree,
    stability_matrix,
    swarm,
)
from registry.sidecars.record import Origin, Sidecar

__all__ = ["ROWS", "Origin", "Row", "Sidecar", "beside", "companions", "read_sidecar"]

Read = Callable[[str, bytes], Sidecar | None]


@dataclass(frozen=True, slots=True)
class Row:
    """A program's sidecars: how their names end, and how they are read.

    Files of more than `limit` bytes are refused, but where `head` says that their beginning is
    enough.

    The first of the `endings` that is there counts. They follow the model's name without its
    suffix, or also the whole name where `whole_name` says so.
    """

    owner: str
    endings: tuple[str, ...]
    read: Read
    limit: int = MAX_BYTES
    head: bool = False
    whole_name: bool = False


def _json(read: Callable[[Fields], Sidecar | None]) -> Read:
    """A reader of JSON objects as a reader of bytes, with all that was noted on the way."""

    def read_bytes(path: str, content: bytes) -> Sidecar | None:
        fields = Fields.of(path, content)
        found = read(fields)
        return None if found is None else replace(found, problems=tuple(fields.problems))

    return read_bytes


_PICTURES = tuple(f"{middle}.{suffix}" for middle in ("", ".preview") for suffix in picture.FORMATS)

ROWS = (
    Row(a1111.OWNER, (".json",), _json(a1111.read)),
    Row(civitai_info.OWNER, (".civitai.info",), _json(civitai_info.read)),
    Row(stability_matrix.OWNER, (".cm-info.json",), _json(stability_matrix.read)),
    Row(lora_manager.OWNER, (".metadata.json",), _json(lora_manager.read)),
    Row(rgthree.OWNER, (".rgthree-info.json",), _json(rgthree.read), whole_name=True),
    Row(hanakura.OWNER, (".hanakura.json",), _json(hanakura.read)),
    Row(swarm.OWNER, (".swarm.json",), _json(swarm.read)),
    Row(checksum.OWNER, (".sha256",), checksum.read, limit=4096, whole_name=True),
    Row(description.OWNER, (".txt", ".description.txt"), description.read),
    Row(model_config.OWNER, (".yaml",), model_config.read, limit=model_config.MAX_BYTES),
    Row(picture.OWNER, _PICTURES, picture.read, limit=picture.HEAD_BYTES, head=True),
)
"""In no order that matters: each reads files of its own."""


def beside(model: str, names: AbstractSet[str]) -> Iterator[tuple[Row, str]]:
    """Which of the `names` in its folder are sidecars of a model, with the rows that read them.

    A model's stem is its name without the last suffix: `my.model.v1.safetensors` has the sidecar
    `my.model.v1.json`.
    """
    stem = model.rpartition(".")[0] or model
    for row in ROWS:
        for beginning in (model, stem) if row.whole_name else (stem,):
            found = _first(beginning, row.endings, names)
            if found is not None and found != model:
                yield row, found
                break


def companions(model: str, names: AbstractSet[str]) -> Iterator[str]:
    """All the `names` in its folder that are sidecars of a model, also those that do not count."""
    stem = model.rpartition(".")[0] or model
    for row in ROWS:
        for beginning in {model, stem} if row.whole_name else {stem}:
            candidates = (beginning + ending for ending in row.endings)
            yield from (name for name in candidates if name in names and name != model)


def _first(beginning: str, endings: tuple[str, ...], names: AbstractSet[str]) -> str | None:
    """A plain loop: this is asked many times for every model of a library."""
    for ending in endings:
        if beginning + ending in names:
            return beginning + ending
    return None


def read_sidecar(row: Row, path: str) -> Sidecar | None:
    """What a file says; None when it has vanished or says nothing of a model.

    Problems of any sort are in the record: nothing is raised.
    """
    try:
        content = _content(path, row)
        return row.read(path, content)
    except FileMissing:
        return None
    except FileProblem as error:
        return Sidecar(path, row.owner, problems=(error.cause,))
    except BadDocument as error:
        return Sidecar(path, row.owner, problems=(clean(str(error)),))


def _content(path: str, row: Row) -> bytes:
    """The bytes of a file that its row wants; raises BadDocument when there are too many."""
    source = FileBytes(path)
    try:
        if source.size > row.limit and not row.head:
            raise BadDocument(f"has {source.size:,} bytes, more than {row.limit:,} are not read")
        return source.pread(0, min(source.size, row.limit))
    finally:
        source.close()
