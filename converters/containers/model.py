"""What opening a model file gives, whatever its container."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum

from converters.errors import (
    CorruptFile,
    DangerousFile,
    FileProblem,
    TruncatedFile,
    UnsafeFile,
    UnsupportedFile,
)
from converters.pickles.verdict import SafetyReport, Verdict
from converters.statedict import StateDict


class Container(StrEnum):
    """How the bytes of a model file are packed."""

    SAFETENSORS = "safetensors"
    TORCH_ZIP = "torch-zip"
    TORCH_LEGACY = "torch-legacy"
    TORCH_TAR = "torch-tar"
    GGUF = "gguf"
    SHARDED_SAFETENSORS = "sharded-safetensors"
    SHARDED_TORCH = "sharded-torch"
    EMBEDDING_IMAGE = "embedding-image"
    DIFFUSERS = "diffusers"


@dataclass(frozen=True, slots=True)
class Model:
    """An opened model file: everything but the tensors' bytes.

    `nbytes` is the size of the file, or of all files of a model in several. `problems` are flaws
    that did not prevent reading, `ignored` the dotted names of what lies in the file beside the
    model (optimizer states, callbacks). `header_bytes` is the offset of the tensor data in a
    safetensors file, None elsewhere.
    """

    path: str
    nbytes: int
    container: Container
    state_dict: StateDict
    safety: SafetyReport
    problems: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    header_bytes: int | None = None

    @property
    def danger(self) -> DangerousFile | None:
        """What to tell about a file that would run code elsewhere."""
        if self.safety.verdict is not Verdict.DANGEROUS:
            return None
        return DangerousFile(
            f"is dangerous: {self.safety.findings[0]}",
            path=self.path,
            hint="never open it with another program; assetmgr runs nothing in it",
        )


NOT_INSPECTED = SafetyReport(
    Verdict.SUSPICIOUS, findings=("what is in the archive was not inspected",)
)
"""For archives that are refused unseen."""


class Inspected(FileProblem):
    """A refused file whose pickles were nevertheless looked at: `safety` says what they name."""

    def __init__(
        self,
        cause: str,
        *,
        safety: SafetyReport,
        path: str | os.PathLike[str] | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(cause, path=path, hint=hint)
        self.safety = safety


class InspectedUnsupported(Inspected, UnsupportedFile):
    """A format that is not read, with the safety of its pickles."""


class InspectedCorrupt(Inspected, CorruptFile):
    """A broken file, with the safety of its pickles."""


class InspectedTruncated(Inspected, TruncatedFile):
    """A file that breaks off, with the safety of its pickles."""


class InspectedUnsafe(Inspected, UnsafeFile):
    """A file that is nothing but a dangerous pickle."""


def inspected(error: FileProblem, safety: SafetyReport) -> FileProblem:
    """The same error with the safety report, where its class has such a form."""
    for kind in (InspectedUnsupported, InspectedTruncated, InspectedCorrupt, InspectedUnsafe):
        if issubclass(kind, type(error)) and type(error) is not FileProblem:
            return kind(error.cause, path=error.path, hint=error.hint, safety=safety)
    return error
