"""A folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self

from converters.errors import TargetExists
from converters.writers.atomic import naming, sync_folder, temporary_beside


class AtomicFolder:
    """A folder being filled beside its target.

    Use as a context manager: fill `path`, call `commit` last; leaving without it removes what was
    written. `own` are the names that such a folder has at its top: with `overwrite` one that holds
    nothing else is replaced, and any other is kept, since a user's models may lie in it. Raises
    TargetExists, DiskFull or WriteFailed.
    """

    def __init__(self, target: Path, own: Collection[str], *, overwrite: bool = False) -> None:
        self.target = target
        self._own = own
        self._overwrite = overwrite
        self.path = temporary_beside(self.target)

    def __enter__(self) -> Self:
        self._refuse_existing()
        with naming(self.target):
            self.path.mkdir(parents=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def commit(self) -> None:
        """Let the folder appear under its name; one that is replaced is removed afterwards."""
        self._refuse_existing()
        old = temporary_beside(self.target)
        with naming(self.target):
            replaced = os.path.lexists(self.target)
            if replaced:
                self.target.rename(old)
            try:
                self.path.rename(self.target)
            except OSError:
                if replaced:
                    with contextlib.suppress(OSError):
                        old.rename(self.target)
                raise
            sync_folder(self.target.parent)
        if replaced:
            shutil.rmtree(old, ignore_errors=True)

    def _refuse_existing(self) -> None:
        if not os.path.lexists(self.target):
            return
        if not self._overwrite:
            hint = "use --overwrite to replace it"
            raise TargetExists("already exists", path=self.target, hint=hint)
        if not self.target.is_dir():
            raise TargetExists("is a file where a folder is to be", path=self.target)
        with naming(self.target):
            others = sorted({each.name for each in self.target.iterdir()}.difference(self._own))
        if others:
            raise TargetExists(
                f"is a folder that holds other things: {others[0]}", path=self.target
            )
