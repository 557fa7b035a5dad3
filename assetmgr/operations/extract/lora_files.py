"""What extracting and resizing a LoRA share: the adapter's file, its metadata and its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.derive import Derivation, file_hashes_json, register_derived
from assetmgr.operations.merge.given_files import refuse_source
from converters.adapters.peft_config import CONFIG_FILE, DIFFUSERS_CONFIG
from converters.errors import UnsupportedFile
from converters.hashing import FileHashes
from converters.identify import identify
from converters.merge.lora_tensors import ModuleError
from converters.progress import Progress
from converters.statedict import StateDict
from converters.transform.metadata import provenance
from converters.writers.atomic import refuse_existing
from converters.writers.safetensors import write_safetensors

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

_OF_THE_SOURCE = frozenset(
    {
        *("sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256"),
        *(CONFIG_FILE, DIFFUSERS_CONFIG),
    }
)
"""Hashes and scales of the tensors, which are others now: what is written has alphas."""


UNWRITTEN: Mapping[str, object] = {
    **dict.fromkeys(("error", "tensors", "bytes", "seconds", "hashes", "asset")),
    "warnings": [],
    "errors": [],
}
"""The part of a document that only a run can tell, before there was one."""


@dataclass(frozen=True, slots=True)
class WrittenLora:
    """An adapter that was written; `asset` is its number in the library."""

    nbytes: int
    tensors: int
    hashes: FileHashes
    asset: int

    def to_json(self) -> dict[str, object]:
        """The part of the document that only a run can tell."""
        return {
            "tensors": self.tensors,
            "bytes": self.nbytes,
            "hashes": file_hashes_json(self.hashes),
            "asset": self.asset,
        }


def require_target(output: Path, sources: Sequence[Path], *, overwrite: bool) -> None:
    """Raises TargetExists for a target that must not be replaced, BadValue for a source."""
    refuse_existing(output, overwrite=overwrite)
    refuse_source(output, sources)


def write_lora(
    workspace: Workspace,
    state: StateDict,
    modules: Sequence[ModuleError],
    target: Path,
    derivation: Derivation,
    *,
    overwrite: bool,
    progress: Progress,
) -> WrittenLora:
    """Write an adapter with its metadata and register it. Raises WriteProblem.

    Raises UnsupportedFile when it would hold no module.
    """
    if not state:
        raise UnsupportedFile("there is nothing to extract: no module differs", path=target)
    kept = {key: text for key, text in state.metadata.items() if key not in _OF_THE_SOURCE}
    described = state.with_metadata(kept | _kohya_texts(modules))
    texts = provenance(
        described,
        identify(state),
        title=target.stem,
        operation=derivation.operation,
        parents=derivation.parents,
        parameters=derivation.parameters,
    )
    written = write_safetensors(
        described.with_metadata(texts), target, overwrite=overwrite, progress=progress
    )
    assert written.hashes is not None
    asset = register_derived(workspace, target, written.hashes, derivation)
    return WrittenLora(written.nbytes, len(state), written.hashes, asset)


def _kohya_texts(modules: Sequence[ModuleError]) -> dict[str, str]:
    """What kohya's tools say of an adapter; `Dynamic` where ranks differ."""
    ranks = {module.rank for module in modules if module.rank is not None}
    rank = str(ranks.pop()) if len(ranks) == 1 else "Dynamic"
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": rank,
        "ss_network_alpha": rank,
    }


def vectors_note(count: int) -> tuple[str, ...]:
    """That changes of biases and norms are in the adapter, if there are any."""
    kept = f"{count} changes of biases and norms are kept; not every program applies them"
    return (kept,) if count else ()


def modules_json(modules: Sequence[ModuleError]) -> list[dict[str, object]]:
    """The modules as the documents list them."""
    return [{"name": m.name, "rank": m.rank, "error": m.error} for m in modules]
