"""An asset as sections of text: the same facts `assetmgr show` gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from textual.content import Content

from tui.sections import MOST_NAMED, Section, text
from tui.shown_picture import WHOSE
from tui.text import count, day, million, plain, size

if TYPE_CHECKING:
    from assetmgr.operations.doctor.check import Check
    from registry.lineage import Ancestor, Descendant, Lineage
    from registry.records import Asset, Preview, PreviewCheck
    from registry.sidecars.record import Sidecar

SAFETY_STYLES = {"safe": "$success", "suspicious": "$warning bold", "dangerous": "$error bold"}
CHECK_STYLES = {True: "$success", False: "$error"}
HASHES_SHOWN = ("autov2", "blake3", "crc32", "autov1", "autov3", "weights")
HASH_DIGITS = 12
LONGEST = 600
DEEPEST = 8
"""Generations of a lineage that are shown."""


def describe(asset: Asset, lineage: Lineage | None = None) -> tuple[Section, ...]:
    """All that is known, most wanted first; sections without facts are left out.

    Of long texts the beginnings are shown: a file may say ten thousand characters about itself.
    """
    sections = (
        Section(plain(asset.name), tuple(_identity(asset))),
        Section("Problems", tuple(("", text(problem, "$warning")) for problem in asset.problems)),
        Section("Safety", tuple(_safety(asset))),
        Section("Preview", tuple(_preview(asset.preview))),
        Section("Tags and words", tuple(_words(asset))),
        Section("Verification", tuple(_verification(asset))),
        Section("Components", tuple(_components(asset))),
        Section("Training", tuple(_training(asset))),
        Section("Made from", tuple(_parents(lineage.parents if lineage else ()))),
        Section("Made into", tuple(_children(lineage.children if lineage else ()))),
        Section("Sources", tuple(_sources(asset))),
        *map(_sidecar, asset.sidecars),
        Section("Files", tuple(_files(asset))),
        Section("Hashes", tuple(_hashes(asset.hashes))),
    )
    return tuple(section for section in sections if section.rows)


def of_preview(asset: Asset, *, is_render: bool) -> tuple[Section, ...]:
    """What there is to say of an asset's picture."""
    rows = _preview(asset.preview) if is_render else [("", text(WHOSE.replace("\n", " "), "$dim"))]
    return (Section("", tuple(rows)),)


def diagnosis(checks: Sequence[Check]) -> tuple[Section, ...]:
    """What a check of the program found, what is wrong first."""
    rows = [(check.name, _check(check)) for check in sorted(checks, key=lambda each: each.ok)]
    return (Section("", tuple(rows)),)


def _check(check: Check) -> Content:
    mark = text("✓ " if check.ok else "✗ ", CHECK_STYLES[check.ok])
    hint = text(f"\n{check.hint}", "$dim") if check.hint else Content("")
    return mark + text(check.detail) + hint


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
    yield "added", text(day(asset.added))
    if asset.note:
        yield "note", _short(asset.note)
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
        yield "", mark + text(check.name) + text(f"  {_measured(check)}", "$dim")
    yield "prompt", text(preview.prompt)
    yield "seed", text(preview.seed)


def _measured(check: PreviewCheck) -> str:
    """What was looked at, its value and the limit, as far as there are numbers."""
    value = "" if check.value is None else f"{check.value:.3g}"
    limit = f"limit {check.threshold:.3g}" if value and check.threshold else ""
    return "; ".join(filter(None, (check.detail, value, limit)))


def _words(asset: Asset) -> Rows:
    if asset.tags:
        yield "tags", text(", ".join(asset.tags), "$accent")
    if asset.trigger_words:
        yield "trigger", _short(", ".join(asset.trigger_words))


def _verification(asset: Asset) -> Rows:
    found = asset.verification
    for name in ("integrity", "structure", "render"):
        verdict = getattr(found, name)
        if verdict is not None:
            yield name, text(verdict, CHECK_STYLES[verdict == "ok"])


def _components(asset: Asset) -> Rows:
    if len(asset.components) > 1:
        for part in asset.components:
            held = text(f"  {count(part.tensors, 'tensor')}", "$dim")
            yield part.name, text(million(part.parameters)) + held


def _training(asset: Asset) -> Rows:
    from converters.identify.about import about
    from converters.statedict import StateDict

    told = about(StateDict({}, asset.metadata))
    texts = {
        "title": told.title,
        "author": told.author,
        "licence": told.license,
        "says": told.description,
        "usage": told.usage,
        **told.training,
    }
    for name, value in texts.items():
        if value is not None:
            yield name.replace("_", " "), _short(value)


def _parents(ancestors: Sequence[Ancestor], depth: int = 0) -> Rows:
    """The tree of what an asset was made from, each generation further in."""
    for made in ancestors:
        branch = "   " * (depth - 1) + "└─ " if depth else ""
        yield made.operation, text(branch) + _short(made.name) + _number(made.asset)
        if depth < DEEPEST:
            yield from _parents(made.parents, depth + 1)


def _children(made: Sequence[Descendant]) -> Rows:
    for child in made[:MOST_NAMED]:
        yield child.operation, _short(child.name) + _number(child.asset)
    if len(made) > MOST_NAMED:
        yield "", text(f"and {len(made) - MOST_NAMED:,} more", "$dim")


def _number(asset: int | None) -> Content:
    return text("" if asset is None else f"  #{asset}", "$primary")


def _sources(asset: Asset) -> Rows:
    for source in asset.sources:
        where = "/".join(part for part in (source.repo, source.file) if part) or source.url or ""
        yield source.source, text(where)


def _sidecar(sidecar: Sidecar) -> Section:
    """What a file beside the model says: hearsay, under the name of the program that wrote it."""
    found = {
        "name": sidecar.name,
        "base": sidecar.base,
        "words": ", ".join(sidecar.trigger_words),
        "weight": sidecar.weight,
        "notes": sidecar.notes,
        "says": sidecar.description,
        "page": ", ".join(sidecar.source.urls) if sidecar.source else None,
        "problem": "; ".join(sidecar.problems),
    }
    rows = tuple((name, _short(value)) for name, value in found.items() if value)
    return Section(f"{sidecar.owner} says", rows)


def _short(value: object) -> Content:
    told = str(value)
    return text(told if len(told) <= LONGEST else told[:LONGEST] + "…")


def _files(asset: Asset) -> Rows:
    for file in asset.files:
        present = file.state == "present"
        yield file.state, text(file.path, "" if present else "$warning")


def _hashes(hashes: Mapping[str, str | None]) -> Rows:
    for name in HASHES_SHOWN:
        digest = hashes.get(name)
        if digest:
            yield name, text(digest[:HASH_DIGITS] + ("…" if len(digest) > HASH_DIGITS else ""))
