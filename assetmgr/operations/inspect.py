"""Look inside files without registering them, from headers and pickle opcodes only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from assetmgr.operations.failures import Failure
from assetmgr.operations.hashing import hash_opened, hashes_json
from assetmgr.operations.walk import model_files
from converters.bytesource import ByteSource
from converters.containers import Inspected, Model, is_pipeline, open_model
from converters.errors import AssetmgrError, FileProblem
from converters.hashing import HashedFile
from converters.identify import Identity, identify
from converters.identify.about import about
from converters.identify.beside import identify_file
from converters.identify.compatibility import Compatibility, compatibility
from converters.pickles.verdict import SafetyReport
from converters.progress import SILENT, Progress
from converters.statedict import StateDict


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is inside one file; `model` and `identity` are None when it cannot be opened.

    `failure` is why it cannot be opened, or that it is dangerous. `compatibility` is the answer to
    whether it fits the checkpoint that was named, if one was.
    """

    path: Path
    nbytes: int | None
    model: Model | None
    identity: Identity | None
    safety: SafetyReport | None
    hashed: HashedFile | None
    failure: Failure | None
    compatibility: Compatibility | None = None

    def to_json(self, *, tensors: bool = False, hashes: bool = False) -> dict[str, object]:
        """The document of the contract; `tensors` and `hashes` were asked for, known or not."""
        state = self.model.state_dict if self.model else StateDict({})
        document: dict[str, object] = {
            "path": str(self.path),
            "bytes": self.nbytes,
            "container": self.model.container.value if self.model else None,
            **_identity_json(self.identity),
            "tensors": len(state) if self.model else None,
            "parameters": state.parameters if self.model else None,
            "dtypes": dtype_counts(state),
            "metadata": dict(state.metadata),
            "about": asdict(about(state)),
            "safety": _safety_json(self.safety),
            "problems": self._problems(),
            "compatibility": _compatibility_json(self.compatibility),
        }
        if tensors:
            document["tensor_list"] = [
                {"name": name, "dtype": tensor.dtype.label, "shape": list(tensor.shape)}
                for name, tensor in state.items()
            ]
        if hashes or self.hashed is not None:
            document["hashes"] = None if self.hashed is None else hashes_json(self.hashed)
        if self.failure is not None:
            document |= {**self.failure.to_json(), "errors": [self.failure.to_json()]}
        return document

    def _problems(self) -> list[str]:
        found = [*self.model.problems] if self.model else []
        found += self.identity.problems if self.identity else []
        return found + ([self.failure.error] if self.failure and not self.model else [])


def inspect_paths(
    paths: Iterable[str],
    *,
    with_hashes: bool = False,
    checkpoint: str | None = None,
    progress: Progress = SILENT,
) -> Iterator[Inspection]:
    """Inspect files, and the model files in folders; a file that fails does not stop the others.

    With a `checkpoint`, each file is tried on it by names and shapes. Raises FileProblem when the
    checkpoint cannot be opened.
    """
    base = None if checkpoint is None else open_model(checkpoint).state_dict
    for path in model_files(paths, is_whole=is_pipeline):
        found = inspect_file(path, with_hashes=with_hashes, progress=progress)
        if base is not None and found.model is not None:
            found = replace(found, compatibility=compatibility(found.model.state_dict, base))
        yield found


def inspect_file(
    path: Path, *, with_hashes: bool = False, progress: Progress = SILENT
) -> Inspection:
    """Inspect one file; what is wrong with it becomes the `failure`."""
    try:
        model = open_model(path)
        hashed = _hash(path, model, progress) if with_hashes else None
    except AssetmgrError as error:
        return _not_opened(path, _size(path), error)
    return _opened(path, model, identify_file(path, model.state_dict), hashed)


def inspect_source(source: ByteSource) -> Inspection:
    """Inspect bytes that are no local file; `path` is their name. Raises NotAvailable."""
    path = Path(source.name)
    try:
        model = open_model(source)
        return _opened(path, model, identify(model.state_dict), None)
    except FileProblem as error:
        return _not_opened(path, source.size, error)


def _not_opened(path: Path, nbytes: int | None, error: AssetmgrError) -> Inspection:
    safety = error.safety if isinstance(error, Inspected) else None
    return Inspection(path, nbytes, None, None, safety, None, Failure.of(error, path))


def _opened(path: Path, model: Model, identity: Identity, hashed: HashedFile | None) -> Inspection:
    danger = None if model.danger is None else Failure.of(model.danger, path)
    return Inspection(path, model.nbytes, model, identity, model.safety, hashed, danger)


def _hash(path: Path, model: Model, progress: Progress) -> HashedFile:
    progress.stage(f"hashing {path.name}", model.nbytes)
    return hash_opened(path, model, progress)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return None


def dtype_counts(state: StateDict) -> dict[str, int]:
    """Number of tensors of each element type."""
    return dict(Counter(tensor.dtype.label for tensor in state.values()))


def _identity_json(identity: Identity | None) -> Mapping[str, object]:
    return {
        "kind": identity.kind.value if identity else "unknown",
        "base": identity.base.value if identity else "unknown",
        "variant": identity.variant if identity else None,
        "prediction": identity.prediction.value if identity else "unknown",
        "layout": identity.layout if identity else None,
        "algorithm": list(identity.algorithm) if identity else [],
        "rank": identity.rank if identity else None,
        "confidence": identity.confidence if identity else 0.0,
        "evidence": list(identity.evidence) if identity else [],
        "components": [
            {"name": part.name, "tensors": part.tensors, "parameters": part.parameters}
            for part in (identity.components if identity else ())
        ],
        "trigger_words": list(identity.trigger_words) if identity else [],
    }


def _compatibility_json(found: Compatibility | None) -> dict[str, object] | None:
    if found is None:
        return None
    return {
        "fits": found.fits,
        "reason": found.reason,
        "modules": found.modules,
        "changed": list(found.changed),
        "unused": list(found.unused),
    }


def _safety_json(safety: SafetyReport | None) -> dict[str, object]:
    return {
        "verdict": safety.verdict.value if safety else None,
        "imports": list(safety.imports) if safety else [],
        "findings": list(safety.findings) if safety else [],
    }
