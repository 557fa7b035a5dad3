"""`assetmgr scan`, `show` and `tag`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from assetmgr.cli import completion
from assetmgr.cli.options import (
    WORDS_MAY_BEGIN_WITH_MINUS,
    Session,
    common_options,
    refuse_options,
)
from assetmgr.operations.describe import asset_json, shown_json
from assetmgr.operations.failures import Failure
from assetmgr.operations.scan import report_json
from assetmgr.operations.scan import scan as scan_paths
from assetmgr.operations.tagging import change_tags, parse_tag_change
from assetmgr.operations.watching import together
from assetmgr.operations.watching import watch as watch_paths
from assetmgr.text import plain, size
from assetmgr.workspace import Workspace

if TYPE_CHECKING:
    from assetmgr.operations.programs import Program
    from registry.lineage import Ancestor, Descendant, Lineage
    from registry.records import Asset, Claim, Contradiction, Verification
    from registry.scanning.scan_records import ScanReport
    from registry.sidecars.record import Sidecar
    from registry.tables.tensor_rows import Sharer

_LONGEST_TEXT = 300
_CONTRADICTIONS = 5
"""Wrong claims that a scan names."""

_SHARERS = 8
"""Assets with the same component that are named."""


@click.command(epilog="Example: assetmgr scan ~/stable-diffusion-webui/models")
@click.argument("paths", nargs=-1, metavar="[PATH]...", shell_complete=completion.folder)
@click.option("--watch", is_flag=True, help="Go on with what changes until Ctrl-C.")
@common_options
@click.pass_obj
def scan(session: Session, paths: tuple[str, ...], watch: bool) -> int:
    """Add or update folders in the library; without a path all folders it knows.

    Unchanged files are not opened. Moved files keep their tags, notes and previews. New files are
    in the library when their headers were read; hashes follow. A program's own folder is
    recognised, and the folders that its configuration names elsewhere are scanned, too.
    """
    from assetmgr.operations.programs import programs_of

    programs = programs_of(paths)
    _tell_programs(session, programs)
    with Workspace.open() as workspace, session.progress() as progress:
        if watch:
            report = _watched(session, watch_paths(workspace, paths, progress))
        else:
            report = scan_paths(workspace, paths, progress)
            _tell(session, report)
    if session.as_json:
        document = {"programs": [program.to_json() for program in programs]}
        session.output.document(report_json(report) | document)
    return session.status


def _tell_programs(session: Session, programs: Sequence[Program]) -> None:
    for program in programs:
        for warning in program.warnings:
            session.warn(f"{program.name}: {warning}")
        if not session.as_json:
            more = "".join(f", {plain(folder)}" for folder in program.folders)
            session.output.line(f"{program.name}: {plain(program.root)}{more}")


def _watched(session: Session, reports: Iterator[ScanReport]) -> ScanReport:
    """Tell reports as they come; Ctrl-C is the way to end this, and no failure."""
    told: list[ScanReport] = []
    with contextlib.suppress(KeyboardInterrupt):
        for report in reports:
            told.append(report)
            _tell(session, report)
    if not told:
        raise KeyboardInterrupt
    return together(told)


def _tell(session: Session, report: ScanReport) -> None:
    for error in report.errors:
        session.fail(Failure(error.path, error.error, error.code, error.hint))
    for said in report.contradicted[:_CONTRADICTIONS]:
        session.warn(f"{said.path}: {_contradiction(said)}")
    if len(report.contradicted) > _CONTRADICTIONS:
        more = len(report.contradicted) - _CONTRADICTIONS
        session.warn(f"{more} more claims are not true: assetmgr list is:contradicted")
    if not session.as_json:
        _print_report(session, report)


def _contradiction(said: Contradiction) -> str:
    from registry.records import CACHE

    words = f"{said.origin} claims {said.hash} {said.claimed}, it has {said.found}"
    return f"{words}: the download is damaged" if said.origin == CACHE else words


def _print_report(session: Session, report: ScanReport) -> None:
    if not report.roots and not report.failed:
        session.output.line("no folder is known yet; name one: assetmgr scan FOLDER")
        return
    counts = ("added", "updated", "moved", "missing", "restored", "unchanged", "failed")
    told = [f"{getattr(report, name)} {name}" for name in counts if getattr(report, name)]
    hashed = f"{size(report.bytes_hashed)} hashed in {report.seconds:.1f} s"
    session.output.line(", ".join([*(told or ["nothing found"]), hashed]))


@click.command(epilog="Example: assetmgr show '#12'")
@click.argument("asset", shell_complete=completion.asset)
@common_options
@click.pass_obj
def show(session: Session, asset: str) -> int:
    """Show all that is known of an asset, named by path, #ID, hash or name."""
    with Workspace.open() as workspace:
        found = workspace.library.find(asset)
        sharers = workspace.library.sharers(found.id)
        tree = workspace.library.lineage(found.id)
    if session.as_json:
        document = {**shown_json(found, sharers), "lineage": asdict(tree)}
        session.output.document({**document, "errors": []})
    else:
        session.output.line(f"#{found.id}  {plain(found.name)}")
        fields = [*_card(found), *_parts(found, sharers), *family_lines(tree)]
        session.output.fields(fields, indent="  ")
    return session.status


def family_lines(tree: Lineage) -> Iterator[tuple[str, str]]:
    """Every generation before an asset, each a step further in, and what was made from it."""
    for depth, ancestor in _ancestors(tree.parents):
        yield "made from", "  " * depth + f"{_numbered(ancestor)} by {ancestor.operation}"
    for child in tree.children:
        yield "made into", f"{_numbered(child)} by {child.operation}"


def _ancestors(parents: Sequence[Ancestor], depth: int = 0) -> Iterator[tuple[int, Ancestor]]:
    for parent in parents:
        yield depth, parent
        yield from _ancestors(parent.parents, depth + 1)


def _numbered(member: Ancestor | Descendant) -> str:
    return member.name if member.asset is None else f"{member.name} #{member.asset}"


def _card(asset: Asset) -> list[tuple[str, str]]:
    kind = " ".join(filter(None, [asset.kind, asset.base, asset.variant]))
    fields = [
        ("kind", f"{kind} ({asset.confidence:.0%} sure)"),
        ("algorithm", ", ".join(asset.algorithm)),
        ("rank", str(asset.rank or "")),
        ("container", f"{asset.container or 'none'}, {size(asset.bytes)}"),
        ("layout", asset.layout or ""),
        ("trigger words", ", ".join(asset.trigger_words)),
        ("tags", ", ".join(asset.tags)),
        ("note", asset.note or ""),
        ("rating", "" if asset.rating is None else str(asset.rating)),
        ("safety", "; ".join([asset.safety.verdict.value, *asset.safety.findings])),
    ]
    fields += [("problem", problem) for problem in asset.problems]
    fields += [
        ("file", f"{file.path} ({', on '.join(filter(None, [file.state, file.machine]))})")
        for file in asset.files
    ]
    fields += [(name, value or "") for name, value in asset.hashes.items()]
    fields += [
        ("claimed", f"{claim.hash} {claim.digest} ({claim.origin}, {_belief(claim, asset)})")
        for claim in asset.claims
    ]
    fields += [
        ("source", f"{s.source} {s.repo or ''} {s.file or ''} {s.revision or ''}".strip())
        for s in asset.sources
    ]
    fields += [line for sidecar in asset.sidecars for line in _told(sidecar)]
    fields.append(("verified", _verified(asset.verification)))
    if asset.preview is not None:
        failed = [check.name for check in asset.preview.checks if not check.ok]
        fields.append(("preview", f"{asset.preview.verdict} {asset.preview.path or ''}"))
        fields += [("failed check", name) for name in failed]
    return fields


def _verified(found: Verification) -> str:
    """What `assetmgr verify` found of the bytes, as its own lines say it."""
    told = (("integrity", found.integrity), ("structure", found.structure))
    said = [f"{name} {word.upper() if word == 'failed' else word}" for name, word in told if word]
    return ", ".join(said)


def _parts(asset: Asset, sharers: Mapping[str, Sequence[Sharer]]) -> Iterator[tuple[str, str]]:
    """Each component by its digest, and whose is the same."""
    for name, digest in asset.component_digests.items():
        others = sharers.get(name, ())
        named = [f"#{other.id} {other.name}" for other in others[:_SHARERS]]
        named += [f"{len(others) - _SHARERS} more"] if len(others) > _SHARERS else []
        yield name, f"{digest}{'; the same in ' if named else ''}{', '.join(named)}"


def _belief(claim: Claim, asset: Asset) -> str:
    agrees = asset.agrees(claim)
    if agrees is None:
        return "not verified"
    return "verified" if agrees else "not that of this file"


def _told(sidecar: Sidecar) -> list[tuple[str, str]]:
    """What a file beside the model says; its hashes are among what is claimed."""
    source = sidecar.source
    return [
        ("beside", f"{sidecar.path} ({sidecar.owner})"),
        ("· name", sidecar.name or ""),
        ("· base", sidecar.base or ""),
        ("· prediction", sidecar.prediction or ""),
        ("· trigger words", ", ".join(sidecar.trigger_words)),
        ("· negative", sidecar.negative or ""),
        ("· weight", "" if sidecar.weight is None else f"{sidecar.weight:g}"),
        ("· tags", ", ".join(sidecar.tags)),
        ("· notes", _shortened(sidecar.notes)),
        ("· description", _shortened(sidecar.description)),
        ("· licence", sidecar.licence or ""),
        ("· author", (source.author if source else None) or ""),
        *(("· address", url) for url in (source.urls if source else ())),
        *(("· problem", problem) for problem in sidecar.problems),
    ]


def _shortened(text: str | None) -> str:
    """The beginning of a long text, in one line."""
    line = " ".join((text or "").split())
    return line if len(line) <= _LONGEST_TEXT else f"{line[:_LONGEST_TEXT]}…"


@click.command(
    epilog="Example: assetmgr tag '#12' +favourite -todo",
    context_settings=WORDS_MAY_BEGIN_WITH_MINUS,
)
@click.argument(
    "words",
    nargs=-1,
    type=click.UNPROCESSED,
    metavar="ASSET... [+TAG]... [-TAG]...",
    shell_complete=completion.tagging,
)
@common_options
@click.pass_obj
def tag(session: Session, words: tuple[str, ...]) -> int:
    """Add (+) and remove (-) tags of assets."""
    refuse_options(words)
    change = parse_tag_change(words)
    with Workspace.open() as workspace:
        assets = change_tags(workspace, change)
    if session.as_json:
        documents = [asset_json(asset) for asset in assets]
        session.output.document({"assets": documents, "errors": []})
    for asset in assets if not session.as_json else ():
        session.output.line(f"#{asset.id}  {plain(asset.name)}  {plain(' '.join(asset.tags))}")
    return session.status
