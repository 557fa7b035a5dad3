"""Every failure the program can name, as one tree.

AssetmgrError                     code, exit_code, hint
├── FileProblem                   something about one file
│   ├── FileMissing               not_found
│   ├── FileUnreadable            unreadable        (permission, directory, FIFO, device, I/O error)
│   ├── EmptyFile                 empty_file
│   ├── TruncatedFile             truncated
│   ├── CorruptFile               corrupt           (breaks the rules of its container)
│   ├── UnsupportedFile           unsupported       (a format we name but do not read)
│   ├── UnsafeFile                unsafe            (a refusal because of what a pickle would do)
│   ├── DangerousFile             dangerous         (read; would run code in other programs)
│   ├── SourceChanged             source_changed    (modified while it was being read)
│   └── BeingWritten              being_written     (still arriving: left alone until it is whole)
├── WriteProblem                  something about one target
│   ├── TargetExists              target_exists
│   ├── DiskFull                  disk_full
│   └── WriteFailed               write_failed
├── MergeProblem                  tensors that do not fit each other
│   ├── WrongFamily               wrong_family
│   └── UnusedKeys                unused_keys
├── Overflow                      overflow          a value that the new type cannot hold
├── BadValue                      bad_value         exit 2: the call is wrong
├── OutOfMemory                   out_of_memory     the computer's or an accelerator's
├── AssetNotFound                 asset_not_found
├── AmbiguousAsset                ambiguous_asset
├── NotAvailable                  not_available     exit 3: setting, model or network missing
└── Cancelled                     cancelled         exit 130

The root lives in the lowest package so that every package can raise and catch it. Third-party
exceptions are translated into this tree once, where they enter.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class AssetmgrError(Exception):
    """A failure with a cause a user can act on.

    `path` names the file concerned (or any other subject of the sentence), `hint` says what to do
    next. `code` is the stable word of the JSON documents, `exit_code` the process status.
    """

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1

    def __init__(
        self, cause: str, *, path: str | os.PathLike[str] | None = None, hint: str | None = None
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.path = None if path is None else os.fspath(path)
        self.hint = hint

    def __str__(self) -> str:
        return self.cause if self.path is None else f"{self.path}: {self.cause}"


class FileProblem(AssetmgrError):
    """Something is wrong with one source file."""

    code = "file_problem"


class FileMissing(FileProblem):
    """There is no such file."""

    code = "not_found"


class FileUnreadable(FileProblem):
    """The file exists but cannot be read: permission, directory, FIFO, device, I/O error."""

    code = "unreadable"


class EmptyFile(FileProblem):
    """The file has no bytes at all."""

    code = "empty_file"


class TruncatedFile(FileProblem):
    """The file ends before its own header says it should."""

    code = "truncated"


class CorruptFile(FileProblem):
    """The file breaks a rule of its container format."""

    code = "corrupt"


class UnsupportedFile(FileProblem):
    """The file is of a format that is recognised but not read, or not recognised at all."""

    code = "unsupported"


class UnsafeFile(FileProblem):
    """The operation is refused because of what the file's pickle asks for."""

    code = "unsafe"


class DangerousFile(FileProblem):
    """The file can be read, but its pickle would run code in programs that unpickle it."""

    code = "dangerous"


class SourceChanged(FileProblem):
    """The file was modified while it was being read."""

    code = "source_changed"


class BeingWritten(FileProblem):
    """Another program is still writing the file."""

    code = "being_written"


class WriteProblem(AssetmgrError):
    """Something is wrong with a target."""

    code = "write_problem"


class TargetExists(WriteProblem):
    """The target is already there and overwriting was not asked for."""

    code = "target_exists"


class DiskFull(WriteProblem):
    """The target's file system has no room left."""

    code = "disk_full"


class WriteFailed(WriteProblem):
    """The operating system refused to write, sync or rename the target."""

    code = "write_failed"


class MergeProblem(AssetmgrError):
    """Tensors that should be combined do not fit each other."""

    code = "merge_problem"


class WrongFamily(MergeProblem):
    """An adapter was made for another model family."""

    code = "wrong_family"


class UnusedKeys(MergeProblem):
    """Keys of an adapter found no place in the checkpoint."""

    code = "unused_keys"


class Overflow(AssetmgrError):
    """A tensor has a finite value that the new type cannot hold."""

    code = "overflow"


class BadValue(AssetmgrError):
    """The call itself is wrong."""

    code = "bad_value"
    exit_code = 2


class OutOfMemory(AssetmgrError):
    """The memory of the computer or of an accelerator does not suffice for a computation."""

    code = "out_of_memory"


class AssetNotFound(AssetmgrError):
    """No asset of the library answers to this reference."""

    code = "asset_not_found"


class AmbiguousAsset(AssetmgrError):
    """A reference names several assets."""

    code = "ambiguous_asset"


class NotAvailable(AssetmgrError):
    """A needed setting, model or network resource is not there."""

    code = "not_available"
    exit_code = 3


class Cancelled(AssetmgrError):
    """The user interrupted the operation."""

    code = "cancelled"
    exit_code = 130

    def __init__(self, cause: str = "interrupted") -> None:
        super().__init__(cause)


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Failures inside that name no file are about this one."""
    try:
        yield
    except Cancelled:
        raise
    except AssetmgrError as error:
        if error.path is not None:
            raise
        raise type(error)(error.cause, path=path, hint=error.hint) from error
