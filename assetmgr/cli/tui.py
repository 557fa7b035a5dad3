"""`assetmgr tui`."""

from __future__ import annotations

import importlib

import click

from assetmgr.cli.options import Session, common_options
from assetmgr.cli.output import on_terminal
from assetmgr.workspace import Workspace
from converters.errors import NotAvailable

_PLACE = "tui.app:run_tui"
"""A text, not an import: the terminal UI stands above this package."""


@click.command(epilog="Example: assetmgr tui")
@common_options
@click.pass_obj
def tui(session: Session) -> int:
    """Browse the library in the terminal."""
    import gc

    if session.as_json or not on_terminal():
        raise NotAvailable("the terminal UI needs a terminal", hint="use list and show in scripts")
    module, _, function = _PLACE.partition(":")
    gc.disable()  # until the library is on the screen: what is imported for it stays
    with Workspace.open() as workspace:
        status: int = getattr(importlib.import_module(module), function)(workspace)
    return status
