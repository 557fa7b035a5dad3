"""Which model files there are in folders; the folder of a diffusers pipeline is one model.

Links to folders are followed to where they lead and each folder is looked into once, so that links
that form a circle do no harm. Hidden and unfinished files are left alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

from converters.bytesource import Fingerprint
from converters.containers import is_pipeline
from converters.errors import AssetmgrError, FileProblem, FileUnreadable
from converters.suffixes import MODEL_SUFFIXES
from converters.writers.atomic import TEMPORARY_SUFFIX
from registry.scanning.on_disk import fingerprint_of
from registry.scanning.places import mount_of, real_folder, within

UNFINISHED = (".aria2", ".part", ".crdownload", ".download")
"""A file with a neighbour of its name and such an ending is still being downloaded."""


_LEFT_ALONE = (TEMPORARY_SUFFIX, *UNFINISHED)
_BY_NAME = attrgetter("name")
_OF_MODELS = tuple(MODEL_SUFFIXES)
NO_MODELS = frozenset({"site-packages", "dist-packages", "node_modules", "__pycache__"})
VIRTUAL_ENVIRONMENT = "pyvenv.cfg"
"""Folders of programs beside the models: their `.pth` and `.bin` files are no models. A folder with
this file is a virtual environment (PEP 405)."""


@dataclass(slots=True)
class Walk:
    """What a walk through folders has met so far.

    `files` are the model files by canonical path, and the folders of pipelines, `others` what else
    each folder holds by the name of the folder, `covered` the folders looked through with
    everything below them, `alone` the places looked at by themselves, `unreadable` what of both
    could not be looked into.
    """

    files: dict[str, Fingerprint] = field(default_factory=dict)
    others: dict[str, frozenset[str]] = field(default_factory=dict)
    covered: list[str] = field(default_factory=list)
    alone: set[str] = field(default_factory=set)
    unreadable: list[str] = field(default_factory=list)
    problems: list[AssetmgrError] = field(default_factory=list)
    _devices: dict[int, str] = field(default_factory=dict)
    _seen: set[tuple[int, int | str]] = field(default_factory=set)

    def add(self, root: str) -> None:
        """Look through a folder, given by its real path."""
        self.covered.append(root)
        waiting = [root]
        linked: list[str] = []
        while waiting or linked:
            # Links come last, so that a folder is met under its own parent first.
            folder = waiting.pop() if waiting else self._follow(linked.pop())
            if self._is_new(folder):
                self._look_into(folder, waiting, linked)

    def visit(self, path: str) -> None:
        """Look at one place by itself."""
        self.alone.add(path)
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:  # nothing tells whether it is there
            self._cannot_read(path, error)
            return
        self._meet(path)
        self._is_new(os.path.dirname(path))  # noqa: PTH120 - for its disk

    def reaches(self, path: str) -> bool:
        """Whether the walk would have met a file with this path."""
        is_covered = path in self.alone or any(within(path, folder) for folder in self.covered)
        return is_covered and not any(within(path, folder) for folder in self.unreadable)

    def mounts(self) -> frozenset[str]:
        """Where the disks are mounted that the walk came to; that of the system is not among them.

        A folder of each was kept for that.
        """
        return frozenset(mount_of(folder) for folder in self._devices.values()) - {os.sep}

    def _follow(self, link: str) -> str:
        folder = real_folder(link)
        self.covered.append(folder)
        return folder

    def _is_new(self, folder: str) -> bool:
        try:
            status = os.stat(folder)
        except OSError as error:
            self._cannot_read(folder, error)
            return False
        self._devices.setdefault(status.st_dev, folder)
        # Some network and FAT file systems have no inodes: there a folder is its path.
        identity = (status.st_dev, status.st_ino or os.path.normcase(folder))
        if identity in self._seen:
            return False
        self._seen.add(identity)
        return True

    def _look_into(self, folder: str, waiting: list[str], linked: list[str]) -> None:
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=_BY_NAME)
        except OSError as error:
            self._cannot_read(folder, error)
            return
        self.others[folder] = frozenset(entry.name for entry in entries if not _is_named_so(entry))
        if is_pipeline(folder):
            self._meet(folder)
            return
        for entry in reversed(_wanted(entries)):
            if _is_folder(entry):
                (linked if entry.is_symlink() else waiting).append(entry.path)
            elif _is_named_so(entry) and _is_file(entry):
                self._meet_file(entry.path)

    def _meet_file(self, path: str) -> None:
        """As `_meet` of what is a file, with less ado: there are thousands."""
        try:
            self.files[path] = Fingerprint.of(os.stat(path))
        except OSError:
            self._meet(path)

    def _meet(self, path: str) -> None:
        try:
            self.files[path] = fingerprint_of(path)
        except FileProblem as error:
            self.unreadable.append(path)
            self.problems.append(error)

    def _cannot_read(self, path: str, error: OSError) -> None:
        self.unreadable.append(path)
        self.problems.append(FileUnreadable(f"cannot be read: {error.strerror}", path=path))


def folders_of(roots: Iterable[str]) -> Sequence[str]:
    """Folders of the library, and those to which links in them lead, as far as these are there."""
    walk = Walk()
    for root in roots:
        walk.add(root)
    return walk.covered


def _wanted(entries: list[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    """What is neither hidden, nor unfinished, nor of a program's packages."""
    unfinished = set(_unfinished(entries))
    if any(entry.name == VIRTUAL_ENVIRONMENT for entry in entries):
        return []
    return [
        entry
        for entry in entries
        if not entry.name.startswith(".")
        and entry.name not in unfinished
        and entry.name not in NO_MODELS
    ]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Unlike `entry.is_dir`, no error for a link that leads to itself."""
    return Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()


def _is_named_so(entry: os.DirEntry[str]) -> bool:
    """Whether its name is one of a model."""
    return entry.name.lower().endswith(_OF_MODELS)


def _is_file(entry: os.DirEntry[str]) -> bool:
    return Path(entry.path).is_file() if entry.is_symlink() else entry.is_file()


def _unfinished(entries: list[os.DirEntry[str]]) -> Iterator[str]:
    for name in (entry.name for entry in entries if entry.name.endswith(_LEFT_ALONE)):
        if name.endswith(TEMPORARY_SUFFIX):
            yield name
        else:
            yield name.rpartition(".")[0]
