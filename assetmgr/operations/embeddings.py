"""Take embeddings out of files that hold several, and put several into one."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.assetref import find_file
from assetmgr.operations.derive import (
    Derivation,
    file_hashes_json,
    parent_of,
    register_derived,
)
from converters.containers import open_model
from converters.embedding_forms import (
    Inversion,
    bundled,
    in_form,
    inversions_in,
    is_bundled,
    joined,
)
from converters.errors import BadValue, UnsupportedFile, WrongFamily, naming
from converters.hashing import FileHashes
from converters.identify import Kind, identify
from converters.progress import SILENT, Progress
from converters.statedict import Plain, StateDict
from converters.transform.metadata import provenance
from converters.writers.atomic import refuse_existing
from converters.writers.safetensors import layout_of, write_safetensors

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

EXTRACT, MERGE = "extract embeddings", "merge embeddings"


@dataclass(frozen=True, slots=True)
class ExtractRequest:
    """A file with embeddings in it, and the folder for them (None: beside it).

    With `per_encoder` the two halves of an SDXL embedding become files of their own; `form` is a
    word of FORMS (None: what most programs take); `rest` is where an adapter without its embeddings
    goes.
    """

    source: str
    output_dir: Path | None = None
    per_encoder: bool = False
    form: str | None = None
    rest: Path | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class MergeRequest:
    """Embeddings that become one file, or part of the adapter `into`."""

    embeddings: tuple[str, ...]
    output: Path
    into: str | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class EmbeddingFile:
    """A file to write: its tensors, and the names of the embeddings in it."""

    target: Path
    state: StateDict
    names: tuple[str, ...]

    def to_json(self, written: WrittenFile | None = None) -> dict[str, object]:
        """The file's document."""
        return {
            "target": str(self.target),
            "names": list(self.names),
            "tensors": len(self.state),
            "bytes": written.nbytes if written else layout_of(self.state).nbytes,
            "hashes": file_hashes_json(written.hashes) if written else None,
            "asset": written.asset if written else None,
        }


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """What only writing tells; `asset` is the file's number in the library."""

    nbytes: int
    hashes: FileHashes
    asset: int


@dataclass(frozen=True, slots=True)
class EmbeddingPlan:
    """The files that an operation makes of others."""

    operation: str
    sources: tuple[Path, ...]
    files: tuple[EmbeddingFile, ...]
    parameters: Mapping[str, Plain]
    overwrite: bool

    def to_json(self) -> dict[str, object]:
        """The document before anything was done."""
        return _document(self, [file.to_json() for file in self.files], None)


@dataclass(frozen=True, slots=True)
class EmbeddingResult:
    """The files that were made."""

    plan: EmbeddingPlan
    written: tuple[WrittenFile, ...]
    seconds: float

    def to_json(self) -> dict[str, object]:
        """The document of the contract."""
        pairs = zip(self.plan.files, self.written, strict=True)
        return _document(self.plan, [file.to_json(done) for file, done in pairs], self.seconds)


def _document(
    plan: EmbeddingPlan, files: Sequence[object], seconds: float | None
) -> dict[str, object]:
    return {
        "sources": [str(path) for path in plan.sources],
        "files": list(files),
        "seconds": seconds,
        "warnings": [],
        "errors": [],
    }


def plan_extract(workspace: Workspace, request: ExtractRequest) -> EmbeddingPlan:
    """Plan a file for every embedding in another.

    Raises CorruptFile or WrongFamily for a file that holds none, UnsupportedFile for a form that
    one of them does not have, TargetExists, FileProblem.
    """
    source = find_file(workspace, request.source)
    state = open_model(source).state_dict
    with naming(source):
        inversions = _embeddings_in(state, source)
        if request.per_encoder:
            inversions = tuple(half for one in inversions for half in one.split())
        folder = request.output_dir or source.parent
        files = [
            EmbeddingFile(
                folder / f"{name}.safetensors",
                in_form(one, request.form or one.usual_form()),
                (one.name,),
            )
            for one, name in zip(inversions, _file_names(inversions), strict=True)
        ]
    if request.rest is not None:
        files.append(_without(state, source, request.rest))
    _require_targets([file.target for file in files], [source], overwrite=request.overwrite)
    parameters: dict[str, Plain] = {"form": request.form, "per_encoder": request.per_encoder}
    return EmbeddingPlan(EXTRACT, (source,), tuple(files), parameters, request.overwrite)


def _embeddings_in(state: StateDict, source: Path) -> tuple[Inversion, ...]:
    if identify(state).kind is Kind.LORA and not any(map(is_bundled, state)):
        raise WrongFamily("is an adapter without embeddings in it")
    return inversions_in(state, source.stem)


def _without(state: StateDict, source: Path, target: Path) -> EmbeddingFile:
    rest = state.select(lambda name: not is_bundled(name))
    if not rest or len(rest) == len(state):
        raise UnsupportedFile("holds no adapter beside its embeddings", path=source)
    return EmbeddingFile(target, rest, ())


def _file_names(inversions: Sequence[Inversion]) -> list[str]:
    """A name for each file, its own where that can be; of those left of one name, numbers tell."""
    wanted = [_file_name(one.name) for one in inversions]
    names: dict[int, str] = {}
    taken: set[str] = set()
    for at in sorted(range(len(wanted)), key=lambda n: wanted[n] != inversions[n].name):
        numbered = (f"{wanted[at]}-{number}" for number in itertools.count(2))
        tried = itertools.chain((wanted[at],), numbered)
        names[at] = next(name for name in tried if name.casefold() not in taken)
        taken.add(names[at].casefold())
    return [names[at] for at in range(len(wanted))]


def _file_name(name: str) -> str:
    """A name without what no file system takes, and without the brackets of tokens."""
    kept = "".join(c if c.isalnum() or c in " -_.+()" else "_" for c in name.strip("<>"))
    return kept.strip(". ") or "embedding"


def plan_merge(workspace: Workspace, request: MergeRequest) -> EmbeddingPlan:
    """Plan one file of several embeddings.

    The halves of a pair become an embedding of SDXL, others a file of several tokens; with `into`
    they are bundled in an adapter. Raises WrongFamily for such as no file holds together, or of one
    name, TargetExists, FileProblem.
    """
    paths = [find_file(workspace, reference) for reference in request.embeddings]
    inversions: list[Inversion] = []
    for path in paths:
        with naming(path):
            inversions += _embeddings_in(open_model(path).state_dict, path)
    if request.into is None:
        if len(inversions) < 2:
            raise BadValue("one embedding alone is merged with nothing; name another, or --into")
        state = joined(inversions)
    else:
        adapter = find_file(workspace, request.into)
        paths.append(adapter)
        with naming(adapter):
            state = bundled(_adapter(adapter), inversions)
    names = tuple(one.name for one in inversions)
    _require_targets([request.output], paths, overwrite=request.overwrite)
    file = EmbeddingFile(request.output, state, names)
    return EmbeddingPlan(MERGE, tuple(paths), (file,), {"names": list(names)}, request.overwrite)


def _adapter(path: Path) -> StateDict:
    state = open_model(path).state_dict
    kind = identify(state).kind
    if kind is not Kind.LORA:
        raise WrongFamily(f"is of kind {kind}, not an adapter that embeddings are bundled in")
    return state


def _require_targets(targets: Sequence[Path], sources: Sequence[Path], *, overwrite: bool) -> None:
    taken = {path.absolute() for path in sources}
    for target in targets:
        if target.absolute() in taken:
            raise BadValue("is also a source, or the target of another", path=target)
        taken.add(target.absolute())
        refuse_existing(target, overwrite=overwrite)


def run_embeddings(
    workspace: Workspace, plan: EmbeddingPlan, progress: Progress = SILENT
) -> EmbeddingResult:
    """Write and register the files. Raises WriteProblem, FileProblem or Cancelled."""
    started = time.perf_counter()
    parents = [parent_of(workspace, path, progress) for path in plan.sources]
    derivation = Derivation(plan.operation, plan.parameters, parents)
    written = [_write(workspace, file, plan, derivation, progress) for file in plan.files]
    return EmbeddingResult(plan, tuple(written), time.perf_counter() - started)


def _write(
    workspace: Workspace,
    file: EmbeddingFile,
    plan: EmbeddingPlan,
    derivation: Derivation,
    progress: Progress,
) -> WrittenFile:
    texts = provenance(
        file.state,
        identify(file.state),
        title=file.target.stem,
        operation=plan.operation,
        parents=derivation.parents,
        parameters=derivation.parameters,
    )
    written = write_safetensors(
        file.state.with_metadata(texts), file.target, overwrite=plan.overwrite, progress=progress
    )
    assert written.hashes is not None
    asset = register_derived(workspace, file.target, written.hashes, derivation)
    return WrittenFile(written.nbytes, written.hashes, asset)
