"""An asset as sections of text: the same facts `assetmgr show` gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from textual.content import Content

from registry.records import Asset, Preview
from tui.sections import Section, text
from tui.text import day, million, plain, size

SAFETY_STYLES = {"safe": "$success", "suspicious": "$warning bold", "dangerous": "$error bold"}
CHECK_STYLES = {True: "$success", False: "$error"}
HASHES_SHOWN = ("autov2", "blake3", "crc32", "autov1", "autov3", "weights")
HASH_DIGITS = 12


def describe(asset: Asset) -> tuple[Section, ...]:
    """All that is known, most wanted first; sections without facts are left out."""
    sections = (
        Section(plain(asset.name), tuple(_identity(asset))),
        Section("Problems", tuple(("", text(problem, "$warning")) for problem in asset.problems)),
        Section("Safety", tuple(_safety(asset))),
        Section("Preview", tuple(_preview(asset.preview))),
        Section("Tags and words", tuple(_words(asset))),
        Section("Made from", tuple(_lineage(asset))),
        Section("Sources", tuple(_sources(asset))),
        Section("Files", tuple(_files(asset))),
        Section("Hashes", tuple(_hashes(asset.hashes))),
    )
    return tuple(section for section in sections if section.rows)


Rows = Iterator[tuple[str, Content]]


def _identity(asset: Asset) -> Rows:
    base = f"{asset.base} {asset.variant}" if asset.variant else str(asset.base)
    algorithms = [algorithm for algorithm in asset.algorithm if algorithm != asset.kind]
    yield "kind", text(", ".join([asset.kind, *algorithms]))
    yield "base", text(base)
    if asset.rank is not None:
        yield "rank", text(asset.rank)
    yield "stored as", text(", ".join(part for part in (asset.container, asset.layout) if part))
    yield "size", text(f"{size(asset.bytes)}   {asset.bytes:,} bytes")
    if asset.tensors:
        dtypes = " ".join(sorted(asset.dtypes))
        yield "tensors", text(f"{asset.tensors:,} ({dtypes})")
        yield "parameters", text(million(asset.parameters))
    if len(asset.components) > 1:
        yield "holds", text(", ".join(component.name for component in asset.components))
    yield "added", text(day(asset.added))
    if asset.note:
        yield "note", text(asset.note)
    if asset.rating is not None:
        yield "rating", text("★" * asset.rating + "☆" * (5 - asset.rating), "$accent")


def _safety(asset: Asset) -> Rows:
    verdict = str(asset.safety.verdict)
    yield "verdict", text(verdict, SAFETY_STYLES.get(verdict, ""))
    for finding in asset.safety.findings:
        yield "", text(finding)


def _preview(preview: Preview | None) -> Rows:
    if preview is None:
        return
    yield (
        "verdict",
        text(preview.verdict, "$success bold" if preview.verdict == "ok" else "$error bold"),
    )
    for check in preview.checks:
        mark = text("✓ " if check.ok else "✗ ", CHECK_STYLES[check.ok])
        yield "", mark + text(check.name) + text(f"  {check.detail}", "$dim")
    yield "prompt", text(preview.prompt)
    yield "seed", text(preview.seed)


def _words(asset: Asset) -> Rows:
    if asset.tags:
        yield "tags", text(", ".join(asset.tags), "$accent")
    if asset.trigger_words:
        yield "trigger", text(", ".join(asset.trigger_words))


def _lineage(asset: Asset) -> Rows:
    for parent in asset.derived_from:
        known = "" if parent.asset is None else f"  #{parent.asset}"
        yield parent.operation, text(parent.name) + text(known, "$primary")


def _sources(asset: Asset) -> Rows:
    for source in asset.sources:
        where = "/".join(part for part in (source.repo, source.file) if part) or source.url or ""
        yield source.source, text(where)


def _files(asset: Asset) -> Rows:
    for file in asset.files:
        present = file.state == "present"
        yield file.state, text(file.path, "" if present else "$warning")


def _hashes(hashes: Mapping[str, str | None]) -> Rows:
    for name in HASHES_SHOWN:
        digest = hashes.get(name)
        if digest:
            yield name, text(digest[:HASH_DIGITS] + ("…" if len(digest) > HASH_DIGITS else ""))
