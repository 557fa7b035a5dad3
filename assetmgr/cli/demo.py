"""`assetmgr demo`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from assetmgr.cli.options import Session, common_options
from assetmgr.operations.demo import DemoReport, run_demo
from assetmgr.operations.describe import asset_json
from assetmgr.operations.failures import Failure
from assetmgr.operations.scan import report_json
from assetmgr.text import plain, size


@click.command(epilog="Example: assetmgr demo demo-library")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("demo-library"))
@common_options
@click.pass_obj
def demo(session: Session, folder: Path) -> int:
    """See the whole journey on small real models.

    Builds a messy FOLDER of them, scans, converts, merges and renders everything, and ends with the
    command that opens the terminal UI on it. A second run keeps what is there.
    """
    tell = (lambda _: None) if session.as_json or session.quiet else session.output.line
    with session.progress() as progress:
        report = run_demo(folder, progress, lambda line: tell(plain(line)))
    if report.executed:
        session.fail(Failure(str(folder), "the hostile pickle was executed", "executed", None))
    for result in report.previews:
        if result.outcome.verdict != "ok":
            session.fail(Failure(result.path, "its preview failed", "preview_failed", None))
    if session.as_json:
        session.output.document(_json(report))
    else:
        _print(session, report)
    return session.status


def _json(report: DemoReport) -> dict[str, object]:
    return {
        "folder": str(report.folder),
        "home": str(report.home),
        "scan": report_json(report.scan),
        "assets": [asset_json(asset) for asset in report.assets],
        "previews": [result.to_json() for result in report.previews],
        "errors": [failure.to_json() for failure in report.failures],
        "executed": report.executed,
        "seconds": report.seconds,
    }


def _print(session: Session, report: DemoReport) -> None:
    out = session.output
    out.line()
    rows = [
        (
            f"#{asset.id}",
            asset.name,
            asset.kind,
            size(asset.bytes),
            str(len(asset.files)),
            asset.safety.verdict.value,
            asset.preview.verdict if asset.preview else "-",
        )
        for asset in report.assets
    ]
    out.table(("id", "name", "kind", "size", "files", "safety", "render"), rows)
    if report.failures:
        out.line()
        out.line("not usable, and said so:")
        for failure in report.failures:
            name = Path(failure.path or "").name
            out.line(f"  {plain(name)}: {plain(failure.error)}")
    ran = "was executed!" if report.executed else "was never executed"
    out.line()
    out.line(f"the hostile pickle {ran}; {report.seconds:.0f} s in all")
    out.line(f"pictures: {plain(str(report.home / 'previews'))}")
    out.line("open the terminal UI on this library with")
    out.line(f"  {plain(_tui_command(report.home))}")


def _tui_command(home: Path) -> str:
    if os.name == "nt":
        return f'set "ASSETMGR_HOME={home}" && assetmgr tui'
    return f"ASSETMGR_HOME={shlex.quote(str(home))} assetmgr tui"
