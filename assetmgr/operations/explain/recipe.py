"""How an explained checkpoint is made again: the recipe that does it, or why there is none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.derive import parent_of
from assetmgr.operations.explain.commands import commands_of
from assetmgr.operations.explain.explanation import Recovery
from assetmgr.operations.explain.mixture import mixture_of
from assetmgr.operations.explain.report import Making
from assetmgr.operations.merge.recipe import Recipe, recipe_text
from converters.errors import UnsupportedFile
from converters.progress import SILENT, Progress
from converters.writers.atomic import refuse_existing, write_whole

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace


def making_of(
    workspace: Workspace, recovery: Recovery, progress: Progress = SILENT, *, pinned: bool = False
) -> Making:
    """How to make the checkpoint again.

    The recipe needs the hashes of its models: with `pinned` those that the library does not know
    are read for them, else it has none.
    """
    commands = commands_of(recovery)
    try:
        return Making(_recipe(workspace, recovery, progress, pinned=pinned), None, commands)
    except UnsupportedFile as error:
        return Making(None, error.cause, commands)


def _recipe(workspace: Workspace, recovery: Recovery, progress: Progress, *, pinned: bool) -> str:
    """The recipe as text. Raises UnsupportedFile with the reason where there is none."""
    if any(each.candidate.is_adapter for part in recovery.parts for each in part.ingredients):
        raise UnsupportedFile("recipes are of checkpoints alone, and this has adapters in it")
    mixture = mixture_of(recovery)
    unknown = [model for model in mixture.models if model.sha256 is None]
    if unknown and not pinned:
        raise UnsupportedFile(f"{unknown[0].name} has no hashes yet; --recipe makes them")
    parents = [parent_of(workspace, model.path, progress) for model in mixture.models]
    return recipe_text(Recipe(recovery.subject.path.stem, mixture.choice, tuple(parents)))


def write_recipe(making: Making, target: Path, *, overwrite: bool) -> None:
    """Keep a recipe as a file. Raises UnsupportedFile without one, TargetExists, WriteProblem."""
    if making.recipe is None:
        raise UnsupportedFile(f"there is no recipe: {making.recipe_problem}", path=target)
    refuse_existing(target, overwrite=overwrite)
    write_whole(target, making.recipe.encode("utf-8"), overwrite=overwrite)
