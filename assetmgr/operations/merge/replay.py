"""Make a merge again from its recipe: find the very files it was made of."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.assetref import find_file
from assetmgr.operations.derive import parent_of
from assetmgr.operations.merge.checkpoints import CheckpointMergeRequest
from assetmgr.operations.merge.given_files import is_among
from assetmgr.operations.merge.recipe import LARGEST_TEXT, RECIPE_KEY, Recipe, read_recipe
from converters.containers import is_pipeline, open_model
from converters.errors import (
    AssetNotFound,
    BadValue,
    FileMissing,
    FileUnreadable,
    MergeProblem,
    UnsupportedFile,
)
from converters.progress import SILENT, Progress
from converters.transform.metadata import Parent

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

_RECIPE_SUFFIX = ".toml"


def load_recipe(workspace: Workspace, reference: str) -> tuple[Recipe, Path]:
    """The recipe in a TOML file, or in the metadata of a merged model; and the file it was in.

    Raises BadValue for a text that is no recipe, UnsupportedFile for a model without one, and what
    `find_file` raises.
    """
    path = Path(reference)
    if path.suffix.lower() == _RECIPE_SUFFIX:
        return read_recipe(_text_of(path), path), path
    path = find_file(workspace, reference)
    text = open_model(path).state_dict.metadata.get(RECIPE_KEY)
    if text is None:
        raise UnsupportedFile("holds no recipe", path=path, hint=f"its metadata lack {RECIPE_KEY}")
    return read_recipe(text, path), path


def _text_of(path: Path) -> str:
    if not os.path.isfile(path):  # noqa: PTH113  # never raises
        raise FileMissing("no such file", path=path)
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_TEXT + 1).decode("utf-8")
    except OSError as error:
        raise FileUnreadable(f"cannot be read: {error.strerror}", path=path) from error
    except UnicodeDecodeError as error:
        raise BadValue(f"is not UTF-8 at byte {error.start}", path=path) from error


def request_of_replay(
    workspace: Workspace,
    reference: str,
    output: Path,
    *,
    search: Sequence[Path] = (),
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> CheckpointMergeRequest:
    """The merge that a recipe asks for, on the files that it pins.

    They are looked for in the library by their hashes, then by their names: in the folders to
    `search`, beside the recipe and in the current folder. Raises what `load_recipe` raises,
    FileMissing for a file that is nowhere, MergeProblem for one that has other hashes than the
    recipe says.
    """
    recipe, origin = load_recipe(workspace, reference)
    folders = (*search, origin.parent, Path())
    models: list[Path] = []
    for pinned in recipe.models:
        models.append(_find(workspace, pinned, folders, models, progress))
    return CheckpointMergeRequest(
        tuple(str(path) for path in models),
        recipe.choice,
        output,
        overwrite,
        recipe.title,
        tuple(Path(pinned.name).name for pinned in recipe.models),
    )


def _find(
    workspace: Workspace,
    pinned: Parent,
    folders: Sequence[Path],
    taken: Sequence[Path],
    progress: Progress,
) -> Path:
    """The model; where several have the same content, a file of its own for each."""
    again: Path | None = None
    other: Path | None = None
    for path in _candidates(workspace, pinned, folders):
        if not _is(parent_of(workspace, path, progress), pinned):
            other = path
        elif is_among(path, taken):
            again = path
        else:
            return path
    if again is not None:
        return again
    digest = f"SHA-256 {pinned.sha256}" if pinned.sha256 else f"BLAKE3 {pinned.blake3}"
    if other is not None:
        raise MergeProblem(f"is not the file of the recipe, which has {digest}", path=other)
    raise FileMissing(
        f"no file with {digest} is in the library, beside the recipe or here",
        path=pinned.name,
        hint="scan the folder it is in, or name that folder with --search",
    )


def _candidates(workspace: Workspace, pinned: Parent, folders: Sequence[Path]) -> Iterator[Path]:
    for digest in filter(None, (pinned.sha256, pinned.blake3)):
        try:
            files = workspace.library.find(digest).files
        except AssetNotFound:
            continue
        for file in files:
            if file.here and os.path.exists(file.path):  # noqa: PTH110  # never raises
                yield Path(file.path)
    for folder in folders:
        place = folder / pinned.name
        if os.path.isfile(place) or is_pipeline(place):  # noqa: PTH113
            yield place


def _is(found: Parent, pinned: Parent) -> bool:
    """Whether a file has the hashes that a recipe names."""
    named = [(pinned.sha256, found.sha256), (pinned.blake3, found.blake3)]
    return all(ours is None or ours.lower() == theirs for ours, theirs in named)
