"""The cache that huggingface_hub shares with other programs: files are put into it by that library.

Only it knows how the folders, links and locks there belong together, and it brings large files by
hf-xet where that is installed. Source of the places: its `constants.py`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.sources.hub_client import asking, endpoint, token
from assetmgr.sources.huggingface import RemoteFile
from converters.errors import FileMissing, NotAvailable
from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    from tqdm import tqdm


IMPATIENCE = {"HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "2", "HF_XET_CLIENT_CONNECT_TIMEOUT": "10s"}
"""For hf-xet, of what the user has not set: where a firewall lets only the Hub through, its own
tries take minutes, and over HTTP the same bytes come."""


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where huggingface_hub keeps repositories."""
    stated = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE")
    return Path(stated).expanduser() if stated else hub_home(environment) / "hub"


def hub_home(environment: Mapping[str, str] = os.environ) -> Path:
    """Where huggingface_hub keeps everything."""
    stated = environment.get("HF_HOME")
    if stated:
        return Path(stated).expanduser()
    caches = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches).expanduser() / "huggingface"


def is_in_cache(file: RemoteFile) -> bool:
    """Whether a file lies in the cache, under the commit that is meant."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(
        file.repo, file.name, cache_dir=cache_folder(), revision=file.commit
    )
    return isinstance(found, str)


def fetch_to_cache(file: RemoteFile, progress: Progress = SILENT, *, again: bool = False) -> Path:
    """Where a file lies in the cache, fetched unless it is there; `again` in any case.

    Where hf-xet cannot do it, as behind a proxy that knows only the Hub, it comes over HTTP. Raises
    FileMissing, NotAvailable, DiskFull, WriteFailed, Cancelled.
    """
    from huggingface_hub import constants

    for name, value in IMPATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        return _fetched(file, progress, again=again)
    except (NotAvailable, FileMissing, RuntimeError):  # the last is what hf-xet raises of networks
        if constants.HF_HUB_DISABLE_XET or find_spec("hf_xet") is None:
            raise
    progress.message(f"{file.name}: asking for it once more, without hf-xet")
    constants.HF_HUB_DISABLE_XET = True
    return _fetched(file, progress, again=again)


def _fetched(file: RemoteFile, progress: Progress, *, again: bool) -> Path:
    from huggingface_hub import hf_hub_download

    progress.stage(f"downloading {file.name}", file.size)
    with asking(file.label, progress, repo=file.repo):
        return Path(
            hf_hub_download(
                file.repo,
                file.name,
                revision=file.commit,
                cache_dir=cache_folder(),
                endpoint=endpoint(),
                token=token(),
                force_download=again,
                tqdm_class=_bar_of(progress),
            )
        )


def _bar_of(progress: Progress) -> type[tqdm[object]]:
    """A bar that draws nothing and tells our progress; a cancellation is raised out of it."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: object, **options: object) -> None:
            options.pop("name", None)
            super().__init__(*arguments, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            progress.advance(int(n or 0))
            return None

    return Bar
