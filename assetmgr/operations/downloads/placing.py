"""Where a file that arrives belongs: the folder of its kind, under a name that it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.layouts import LAYOUTS, Layout
from assetmgr.operations.names import safe_name, visible_name
from converters.errors import BadValue
from converters.kinds import Kind

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

FOLDERS = {
    kind: folder.removeprefix("models/") for kind, folder in LAYOUTS["comfyui"].folders.items()
}
"""Kind -> folder below the models folder, as ComfyUI names them; anything else goes to `other`."""

PIPELINES = "diffusers"
"""That of models in several files, also as ComfyUI names it."""

OTHER = "other"

_GENERIC = frozenset(
    {"adapter_model", "diffusion_pytorch_model", "model", "pytorch_lora_weights", "pytorch_model"}
)


@dataclass(frozen=True, slots=True)
class Destination:
    """A folder, and the program whose folders by kind lie in it.

    Without a program files keep their own folders below `folder`; without a folder they go to that
    of their kind below the models folder of the settings.
    """

    folder: Path | None = None
    layout: str | None = None

    def root(self, workspace: Workspace) -> Path:
        """The folder that all targets and parts lie below."""
        if self.folder is not None:
            return self.folder
        chosen = workspace.settings.models
        return workspace.paths.models if chosen is None else Path(chosen).expanduser().absolute()

    def known_place(self, name: str) -> Path | None:
        """Where a file goes, as far as its name alone tells."""
        if self.folder is None or self.layout is not None:
            return None
        return self.folder.joinpath(*map(safe_name, name.split("/")))

    def of_several_files(self, workspace: Workspace, family: str) -> Destination:
        """Where the files of one model go: they keep their own folders, where pipelines are."""
        if self.folder is not None and self.layout is None:
            return self
        root = self.root(workspace)
        return Destination(root / _pipelines(root, self._program(workspace)) / safe_name(family))

    def _program(self, workspace: Workspace) -> str | None:
        return self.layout or (workspace.settings.models_layout if self.folder is None else None)

    def place(self, workspace: Workspace, name: str, family: str, kind: str, base: str) -> Path:
        """Where a file goes once it is known what it is; `family` tells generic names apart."""
        fixed = self.known_place(name)
        if fixed is not None:
            return fixed
        root = self.root(workspace)
        return (
            root / _folder(root, self._program(workspace), kind, base) / _telling_name(name, family)
        )


def check_layout(layout: str | None) -> None:
    """Raises BadValue for a program that has no row in the table."""
    if layout is not None and layout not in LAYOUTS:
        raise BadValue(f"unknown layout {layout!r}; there are {', '.join(LAYOUTS)}")


def _folder(root: Path, layout: str | None, kind: str, base: str) -> Path:
    if layout is None:
        return Path(FOLDERS.get(kind, OTHER))
    return _below(root, LAYOUTS[layout], LAYOUTS[layout].folder(kind, base, is_pipeline=False))


def _pipelines(root: Path, layout: str | None) -> Path:
    if layout is None:
        return Path(PIPELINES)
    program = LAYOUTS[layout]
    return _below(root, program, program.folder(Kind.UNKNOWN, "unknown", is_pipeline=True))


def _below(root: Path, program: Layout, folder: str | None) -> Path:
    return Path(program.prefix(root), OTHER if folder is None else folder)


def _telling_name(name: str, family: str) -> str:
    """Names that every repository has get those of repository and folders before them."""
    *folders, last = name.split("/")
    if last.split(".")[0].split("-")[0] in _GENERIC:
        last = "-".join([family, *folders, last])
    return visible_name(last)
