"""`assetmgr doctor`."""

from __future__ import annotations

from dataclasses import asdict

import click

from assetmgr.cli.options import Session, common_options
from assetmgr.operations.doctor.examine import Check, diagnose
from assetmgr.operations.failures import Failure


@click.command(epilog="Example: assetmgr doctor")
@common_options
@click.pass_obj
def doctor(session: Session) -> int:
    """Check what the program needs: packages, library, folders, disk, tokens, GPU, terminal.

    Nothing is created or changed, no network is used, and tokens are not shown.
    """
    with session.progress() as progress:
        checks = diagnose(progress=progress)
    if not session.as_json:
        rows = [("ok" if check.ok else "FAILED", check.name, check.detail) for check in checks]
        session.output.table(("", "check", "found"), rows)
    for check in checks:
        if not check.ok:
            session.fail(_failure(check))
    if session.as_json:
        documents = [asdict(check) for check in checks]
        session.output.document({"checks": documents, "errors": session.errors()})
    return session.status


def _failure(check: Check) -> Failure:
    return Failure(None, f"{check.name}: {check.detail}", "check_failed", check.hint)
