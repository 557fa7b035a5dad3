"""The names of places: they stay the same whichever way of links leads there.

A place is named by the real path of its folder and its own name; a file that is itself a link keeps
its name.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path, PurePath

from converters.errors import FileMissing, FileUnreadable
from converters.suffixes import MODEL_SUFFIXES
from registry.text import fold, shown

_SNAPSHOT = re.compile(r"/models--[^/]*?--([^/]+)/snapshots/[0-9a-f]+$")
_VARIANT = re.compile(r"fp16|bf16|fp32|non_ema|ema|\d{5}-of-\d{5}", re.IGNORECASE)
_EVERYWHERE = re.compile(
    r"(diffusion_pytorch_model|pytorch_model|model|pytorch_lora_weights|adapter_model)"
    rf"([.-]({_VARIANT.pattern}))*",
    re.IGNORECASE,
)
"""How libraries call weights, whatever is in them, with variants and numbers of parts. That `model`
is no name that somebody gave, only the folder of a part shows."""
_PARTS = frozenset(
    {
        *("unet", "transformer", "transformer_2", "vae", "vqvae", "prior", "decoder", "controlnet"),
        *("text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder_4", "image_encoder"),
        *("safety_checker", "feature_extractor", "vision_encoder", "movq"),
    }
)
"""Folders of a pipeline of diffusers (`model_index.json`)."""
_OF_MANY = _PARTS | {
    *("models", "checkpoints", "stable-diffusion", "diffusion_models", "diffusers", "embeddings"),
    *("lora", "loras", "lycoris", "clip", "clip_vision", "text_encoders", "ipadapter"),
}
"""Folders, in lower case, in which programs keep models of a kind: they name none of them."""
_MOUNTS = ("/mnt/", "/media/", "/run/media/", "/Volumes/")
"""Where systems mount disks (Filesystem Hierarchy Standard 3.0; udisks; macOS)."""
_MANY_SPELLINGS = sys.platform in ("darwin", "win32")
"""Whether one file answers to names in other cases (and on macOS: with accents put together)."""
_LONGEST_PATH = 1024  # MAXPATHLEN of macOS


def canonical(path: str | os.PathLike[str]) -> str:
    """The name of a file's place; the file itself may be a link and keeps its name."""
    place = Path(path)
    folder = real_folder(place.parent)
    return str(Path(folder, _spelled(folder, place.name) if _MANY_SPELLINGS else place.name))


def _spelled(folder: str, name: str) -> str:
    """A file's name as the disk has it: who typed it may have taken other cases or accents."""
    with contextlib.suppress(OSError):
        if os.path.lexists(os.path.join(folder, name)):  # noqa: PTH118 - paths are texts here
            names = os.listdir(folder)  # noqa: PTH208
            alike = [other for other in names if fold(other) == fold(name)]
            if name not in names and len(alike) == 1:
                return alike[0]
    return name


def real_folder(path: str | os.PathLike[str]) -> str:
    """The one name of a folder, whichever way of links leads there and however it was typed.

    On macOS the case of a name is mostly that which was typed: the system knows the true one.
    """
    real = os.path.realpath(path)
    if sys.platform == "darwin":
        import fcntl

        with contextlib.suppress(OSError):  # not there, or closed to us
            descriptor = os.open(real, os.O_RDONLY)
            try:
                stored = fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(_LONGEST_PATH))
            finally:
                os.close(descriptor)
            return os.fsdecode(stored.rstrip(b"\0"))
    return real


def within(path: str, folder: str) -> bool:
    """Whether a canonical path lies in a canonical folder, or is it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def require_mounted(root: str, known: Iterable[str]) -> None:
    """Raises FileMissing for an empty folder where disks are mounted and known files were."""
    if not root.startswith(_MOUNTS) or any(Path(root).iterdir()):
        return
    if any(within(path, root) for path in known):
        raise FileMissing("is empty: its disk seems not to be mounted", path=root)


def mount_of(folder: str) -> str:
    """Where the disk is mounted that a folder, given by its real path, lies on."""
    while not is_mount(folder):
        folder = os.path.dirname(folder)  # noqa: PTH120 - up to the top, where it stays the same
    return folder


def is_mount(folder: str) -> bool:
    """Whether a disk is mounted there; a seam for tests, which may not mount any."""
    return os.path.ismount(folder)


def name_of(path: str) -> str:
    """What to call what lies there: a file without its ending, a pipeline by its folder.

    A file that is called as all are in folders of diffusers and PEFT has the name of its folder, a
    part of a pipeline that of the pipeline and its own, as in `fox (unet)`.

    A snapshot in a Hugging Face cache has the name of its repository
    (`models--<owner>--<name>/snapshots/<revision>`).
    """
    place = shown(path)
    name = os.path.basename(place)  # noqa: PTH119 - of every file; its path is canonical
    stem, dot, suffix = name.rpartition(".")
    if stem and f"{dot}{suffix}".lower() in MODEL_SUFFIXES:
        return _of_folder(place, stem) if _EVERYWHERE.fullmatch(stem) else stem
    repository = _SNAPSHOT.search(PurePath(place).as_posix())
    return repository[1] if repository else name


def names_of(path: str) -> tuple[str, ...]:
    """What it is called, and what its file is called, too, where that tells less."""
    name, stem = name_of(path), shown(path).rpartition(os.sep)[2].rpartition(".")[0]
    return (name, stem) if name != stem and _EVERYWHERE.fullmatch(stem) else (name,)


def _of_folder(place: str, stem: str) -> str:
    """What tells a file with a name that libraries give from others."""
    folder = PurePath(place).parent
    parts = [folder.name] if folder.name in _PARTS else []
    model = folder.parent if parts else folder
    if not model.name or model.name.lower() in _OF_MANY:
        return stem
    if not parts and stem.lower().startswith("model"):
        return stem
    details = ", ".join([*parts, *_VARIANT.findall(stem)])
    return name_of(str(model)) + (f" ({details})" if details else "")


def find_root(path: str | os.PathLike[str]) -> str:
    """The real path of a folder. Raises FileMissing or FileUnreadable."""
    folder = Path(path)
    # Not the methods of Path: they raise for names that are too long and folders closed to us.
    if not os.path.exists(folder):  # noqa: PTH110
        raise FileMissing("no such folder", path=folder)
    if not os.path.isdir(folder):  # noqa: PTH112
        raise FileUnreadable("is not a folder", path=folder)
    return real_folder(folder)
