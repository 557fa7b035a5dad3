"""An item of a batch that failed while the others went on."""

from __future__ import annotations

import os
from dataclasses import dataclass

from converters.errors import AssetmgrError


@dataclass(frozen=True, slots=True)
class Failure:
    """What failed, why, the stable code of the cause, and what to do about it.

    `item` is what the batch was asked to work on, when `path` names another file: the target.
    """

    path: str | None
    error: str
    code: str
    hint: str | None
    exit_code: int = 1
    item: str | None = None

    @classmethod
    def of(cls, error: AssetmgrError, path: str | os.PathLike[str] | None = None) -> Failure:
        """The failure of an error; `path` names the item where the error names nothing."""
        item = error.path if path is None else os.fspath(path)
        subject = item if error.path is None else error.path
        return cls(subject, error.cause, error.code, error.hint, error.exit_code, item)

    def to_json(self) -> dict[str, object]:
        """The entry of an `errors` list."""
        return {"path": self.path, "error": self.error, "code": self.code, "hint": self.hint}
