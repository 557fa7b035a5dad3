"""Is everything that the program needs in order? Asks only: nothing is created or changed."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from assetmgr.config import Settings, load_settings
from assetmgr.operations.doctor import library as doctor_library
from assetmgr.operations.doctor import machine as doctor_machine
from assetmgr.operations.doctor import services as doctor_services
from assetmgr.operations.doctor.check import Check, is_file, is_folder
from assetmgr.paths import Paths, find_paths
from converters.errors import BadValue
from converters.progress import SILENT, Progress

__all__ = ["Check", "diagnose"]


def diagnose(
    environment: Mapping[str, str] = os.environ, progress: Progress = SILENT
) -> tuple[Check, ...]:
    """Every check, in the order in which things build on each other. Raises Cancelled.

    Takes the environment and not a workspace, because wrong settings are among the answers. Tokens
    are never part of one.
    """
    paths = find_paths(environment)
    settings, settings_check = _settings(paths, environment)
    on_terminal = sys.stdout.isatty()
    progress.stage("looking for a GPU, reading the database")
    checks = [
        doctor_machine.python(),
        doctor_machine.packages(),
        doctor_machine.preview_packages(),
        settings_check,
        _state_folder(paths),
        doctor_machine.free_disk(paths.home),
        _faults(paths),
        *doctor_library.checks(paths, settings),
        doctor_services.hub_cache(environment),
        doctor_services.hub_token(environment),
        doctor_services.civitai_token(environment),
        doctor_services.hub_endpoint(environment),
        doctor_services.civitai_endpoint(environment),
        doctor_machine.gpu(),
        doctor_machine.pictures(environment, settings.images, on_terminal=on_terminal),
    ]
    progress.advance()
    return tuple(checks)


def _settings(paths: Paths, environment: Mapping[str, str]) -> tuple[Settings, Check]:
    try:
        settings = load_settings(paths, environment)
    except BadValue as error:
        return Settings(), Check("settings", ok=False, detail=str(error), hint="mend the file")
    there = is_file(paths.config)
    detail = str(paths.config) if there else f"{paths.config} is not there: defaults"
    return settings, Check("settings", ok=True, detail=detail)


def _faults(paths: Paths) -> Check:
    """What is to be sent with a report; that something failed once is no defect of today."""
    there = is_file(paths.faults)
    detail = f"{paths.faults} tells of them" if there else "none was noted"
    return Check("faults", ok=True, detail=detail)


def _state_folder(paths: Paths) -> Check:
    """A folder that can be written, or can be made."""
    home = paths.home
    hint = "set ASSETMGR_HOME to a folder of yours"
    if is_folder(home):
        writable = os.access(home, os.W_OK | os.X_OK)
        detail = str(home) if writable else f"{home} cannot be written"
        return Check("state folder", ok=writable, detail=detail, hint=None if writable else hint)
    if is_file(home):
        return Check("state folder", ok=False, detail=f"{home} is not a folder", hint=hint)
    parent = doctor_machine.nearest_folder(home)
    possible = os.access(parent, os.W_OK | os.X_OK)
    detail = f"{home} is made when needed" if possible else f"{home} cannot be made in {parent}"
    return Check("state folder", ok=possible, detail=detail, hint=None if possible else hint)
