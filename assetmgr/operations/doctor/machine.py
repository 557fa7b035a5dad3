"""The doctor's questions about the machine: Python, packages, disk, GPU, terminal."""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from assetmgr import __version__
from assetmgr.operations.doctor.check import Check, is_folder
from assetmgr.text import size

LEAST_FREE = 2_000_000_000
"""Bytes; less than one converted checkpoint of the smallest family."""

PROBE_SECONDS = 60.0
"""Importing torch takes seconds; a driver that hangs takes for ever."""

PROBE = """
import json, torch
cuda = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
print(json.dumps({
    "torch": torch.__version__,
    "cuda": [[found.name, found.total_memory] for found in cuda],
    "mps": torch.backends.mps.is_available(),
}))
"""

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?P<rest>.*)", re.DOTALL)


def python() -> Check:
    """The program, the interpreter and the system."""
    version = platform.python_version()
    detail = f"assetmgr {__version__}, Python {version}, {platform.platform(terse=True)}"
    return Check("python", ok=True, detail=detail)


def packages() -> Check:
    """The packages that the program was installed with."""
    found = dict(_versions(extra=None))
    if not found:
        return Check("packages", ok=True, detail="run from a folder that was not installed")
    return _listed("packages", found, "install assetmgr again")


def preview_packages() -> Check:
    """The packages that only rendering needs; without any of them there is just no rendering."""
    found = dict(_versions(extra="preview"))
    if not any(found.values()):
        hint = 'pip install "assetmgr[preview]"'
        return Check("preview packages", ok=True, detail="not installed: no previews", hint=hint)
    return _listed("preview packages", found, 'pip install "assetmgr[preview]"')


def free_disk(folder: Path) -> Check:
    """The room where the state and downloads go."""
    there = nearest_folder(folder)
    free = shutil.disk_usage(there).free
    enough = free >= LEAST_FREE
    hint = None if enough else "make room: models are large"
    return Check("disk", ok=enough, detail=f"{size(free)} free at {there}", hint=hint)


def nearest_folder(path: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    return next(folder for folder in (path, *path.parents) if is_folder(folder))


def gpu() -> Check:
    """What torch finds, asked in a process of its own: a driver may crash or hang."""
    hint = "install torch again, and look at the driver of the GPU"
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            [sys.executable, "-P", "-c", PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        detail = f"torch did not answer within {PROBE_SECONDS:g} s"
        return Check("gpu", ok=False, detail=detail, hint=hint)
    found = _answer(done.stdout)
    if done.returncode or found is None:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        cause = words[-1] if words else f"exit status {done.returncode}"
        return Check("gpu", ok=False, detail=f"torch does not work: {cause}", hint=hint)
    return Check("gpu", ok=True, detail=found)


def pictures(environment: Mapping[str, str], images: str, *, on_terminal: bool) -> Check:
    """How the terminal UI will draw pictures, as far as the environment tells."""
    if images == "off":
        detail = "off, by the setting images"
    elif images == "halfblock":
        detail = "half cells, by the setting images"
    elif not on_terminal:
        detail = "not a terminal"
    else:
        detail = _protocol(environment)
    return Check("terminal pictures", ok=True, detail=detail)


def _protocol(environment: Mapping[str, str]) -> str:
    """The protocol that the terminal is known for, by the variables that terminals set."""
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if "TMUX" in environment or term.startswith(("screen", "tmux")):
        return "half cells: inside tmux and screen pictures leave ghosts"
    if "KITTY_WINDOW_ID" in environment or "kitty" in term or "ghostty" in (term + program).lower():
        return "kitty graphics"
    if program == "WezTerm" or term.startswith(("foot", "mlterm")) or "WT_SESSION" in environment:
        return "sixel"
    return "not known; the terminal is asked when `assetmgr tui` starts"


def _answer(output: bytes) -> str | None:
    """The probe's answer as a sentence; None when it is not one."""
    try:
        answer = json.loads(output)
        cards = [f"{name} with {size(nbytes)}" for name, nbytes in answer["cuda"]]
        mps = ["Apple's GPU"] if answer["mps"] else []
        found = ", ".join(cards + mps) or "none: previews are rendered on the CPU"
        return f"{found} (torch {answer['torch']})"
    except (ValueError, TypeError, KeyError):
        return None


def _versions(extra: str | None) -> Iterator[tuple[str, str | None]]:
    """The packages that assetmgr asks for, always or with an extra, and what is installed."""
    for requirement in _requirements():
        parts = _REQUIREMENT.match(requirement)
        wanted = "extra ==" in requirement if extra is None else f'"{extra}"' in requirement
        if parts is None or wanted == (extra is None):
            continue
        try:
            yield parts["name"], metadata.version(parts["name"])
        except metadata.PackageNotFoundError:
            yield parts["name"], None


def _requirements() -> list[str]:
    try:
        stated = metadata.requires("assetmgr") or []
    except metadata.PackageNotFoundError:
        return []
    return [requirement.replace("'", '"') for requirement in stated]


def _listed(name: str, found: Mapping[str, str | None], hint: str) -> Check:
    missing = [package for package, version in found.items() if version is None]
    if missing:
        return Check(name, ok=False, detail=f"not installed: {', '.join(missing)}", hint=hint)
    detail = ", ".join(f"{package} {version}" for package, version in found.items())
    return Check(name, ok=True, detail=detail)
