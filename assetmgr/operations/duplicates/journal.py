"""What replacing copies by links has done, written down before it is done.

One JSON object a line, synced to the disk before the file is replaced. A line that is cut short by
a crash means that nothing was replaced yet. Later lines about the same path count.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from converters.bytesource import FileBytes
from converters.errors import CorruptFile, FileMissing
from converters.writers.atomic import naming, sync_folder, write_whole

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

NAME = "links.jsonl"
MAX_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Replacement:
    """A file that was, or was about to be, replaced by a link to `kept`.

    `temporary` is the name of the link until it takes the file's place. `mtime_ns` and `mode` are
    those of the file that was replaced, `linked_mtime_ns` and `linked_inode` those of what took its
    place; `linked_inode` is 0 for a reflink, which is a file of its own.
    """

    asset: int
    path: str
    kept: str
    way: str
    temporary: str
    bytes: int
    mtime_ns: int
    mode: int
    linked_mtime_ns: int
    linked_inode: int

    @property
    def temporary_path(self) -> Path:
        """Where the link lies until then."""
        return Path(self.path).with_name(self.temporary)

    def is_linked(self) -> bool:
        """Whether the path still is the link that was put there."""
        try:
            now = os.lstat(self.path)
        except OSError:
            return False
        if self.linked_inode:
            return now.st_ino == self.linked_inode and now.st_nlink > 1
        return (now.st_size, now.st_mtime_ns) == (self.bytes, self.linked_mtime_ns)


def journal_of(workspace: Workspace) -> Journal:
    """The journal of a library's machine."""
    return Journal(workspace.paths.home / NAME)


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal in a folder of the program's state."""

    path: Path

    def read(self) -> dict[str, Replacement]:
        """What was replaced, by path. Raises FileProblem when the journal cannot be read."""
        try:
            source = FileBytes(self.path)
        except FileMissing:
            return {}
        try:
            if source.size > MAX_BYTES:
                raise CorruptFile(f"is longer than {MAX_BYTES >> 20} MB", path=self.path)
            lines = source.pread(0, source.size).split(b"\n")
        finally:
            source.close()
        return {line.path: line for line in _replacements(lines)}

    def append(self, replacement: Replacement) -> None:
        """Write a line down so that not even a power failure loses it. Raises WriteProblem."""
        line = json.dumps(asdict(replacement)).encode("ascii")
        with naming(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as stream:
                stream.write(b"\n" * _is_cut_short(stream) + line + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
            sync_folder(self.path.parent)

    def rewrite(self, replacements: dict[str, Replacement]) -> None:
        """Keep these alone; without any the journal goes. Raises WriteProblem."""
        if replacements:
            lines = (json.dumps(asdict(line)) + "\n" for line in replacements.values())
            write_whole(self.path, "".join(lines).encode("ascii"), overwrite=True)
        else:
            with naming(self.path):
                self.path.unlink(missing_ok=True)


def _is_cut_short(stream: BinaryIO) -> bool:
    """Whether the last line has no end; what is written goes to the end whatever was read."""
    if stream.seek(0, os.SEEK_END) == 0:
        return False
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) != b"\n"


def _replacements(lines: list[bytes]) -> Iterator[Replacement]:
    for line in lines:
        try:
            yield _replacement(json.loads(line))
        except (KeyError, TypeError, ValueError, RecursionError):
            continue  # cut short: nothing had been replaced


def _replacement(document: object) -> Replacement:
    """Raises KeyError, TypeError or ValueError."""
    if not isinstance(document, dict):
        raise TypeError
    values = {field.name: document[field.name] for field in fields(Replacement)}
    texts = ("path", "kept", "way", "temporary")
    for name, value in values.items():
        if type(value) is not (str if name in texts else int):
            raise TypeError
    replacement = Replacement(**values)
    if Path(replacement.temporary).name != replacement.temporary:
        raise ValueError
    return replacement
