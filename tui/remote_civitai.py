"""Models of Civitai as cards: one for each version."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from tui.cards import Ask, Card, failed, peeked
from tui.sections import Section, text
from tui.text import plain, size

if TYPE_CHECKING:
    from assetmgr.operations.civitai.updates import CivitaiUpdate, NewerVersion
    from assetmgr.workspace import Workspace
    from converters.progress import Progress

_DESCRIPTION = 1200
_TAG = re.compile(r"<[^>]*>")


class OnCivitai:
    """The site, for a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def search(self, ask: Ask, progress: Progress) -> Iterator[Card]:
        """What it has. Raises BadValue, FileMissing, NotAvailable, Cancelled."""
        from assetmgr.operations.civitai.find import info, search
        from assetmgr.sources.civitai.site import Search

        wanted = ask.text.strip()
        if wanted.lstrip("@").isdecimal() or "/models/" in wanted:
            models = [info(self._workspace, wanted, progress)]
        else:
            query = Search(wanted, ask.kind or None, ask.base or None, ask.sort or None, ask.most)
            models = list(search(self._workspace, query, progress))
        for model in models:
            yield from self._cards(model)

    def _cards(self, model: Mapping[str, Any]) -> Iterator[Card]:
        for version in model["versions"]:
            files = version["files"]
            file = next((each for each in files if each["primary"]), files[0] if files else None)
            yield Card(
                name=plain(f"{model['name']} · {version['name'] or version['id']}"),
                kind=plain(str(model["kind"] or model["type"] or "")),
                base=plain(str(version["base_model"] or version["base"])),
                nbytes=None if file is None else file["bytes"],
                licence=_licence(model["licence"]),
                asset=None if file is None else file["asset"],
                sections=tuple(_sections(model, version)),
                download=None if file is None else partial(self._queue, version["id"]),
                peek=None if file is None else partial(self._peek, version["id"]),
                sha256=None if file is None else file["hashes"]["sha256"],
            )

    def _queue(self, version: str, progress: Progress) -> str:
        from assetmgr.operations.civitai.download import CivitaiRequest, queue_civitai_download

        plan = queue_civitai_download(self._workspace, CivitaiRequest(version), progress)
        return f"download {plan.queued} is queued"

    def _peek(self, version: str, progress: Progress) -> str:
        from assetmgr.operations.peek import civitai_peek

        return peeked(civitai_peek(self._workspace, version, progress=progress))

    def updates(self, progress: Progress) -> Iterator[Card]:
        """Every asset that is known to come from there. Raises NotAvailable, Cancelled."""
        from assetmgr.operations.civitai.updates import updates
        from assetmgr.operations.failures import Failure

        for found in updates(self._workspace, (), progress):
            if isinstance(found, Failure):
                yield failed(found.path or "", found.error)
                continue
            for newer in found.newer:
                yield self._newer(found, newer)
            if not found.newer:
                yield _unchanged(found)

    def _newer(self, found: CivitaiUpdate, newer: NewerVersion) -> Card:
        version, file = newer.version, newer.file
        facts = (
            ("asset", text(f"{found.asset.name}  #{found.asset.id}")),
            ("state", text("newer", "$warning bold")),
            ("version", text(version.name or version.id)),
            ("base", text(version.base or "not told")),
            ("published", text(version.published or "not told")),
            ("words", text(", ".join(version.trained_words))),
        )
        return Card(
            name=plain(f"{found.asset.name} · {version.name or version.id}"),
            kind=str(found.asset.kind),
            base=plain(version.base or ""),
            nbytes=file.size if file else None,
            licence="newer" if newer.same_base else "newer, other base",
            asset=newer.asset,
            sections=(Section(plain(found.asset.name), facts),),
            download=partial(self._queue, version.id) if file and newer.asset is None else None,
            sha256=file.hashes.get("sha256") if file else None,
        )


def _unchanged(found: CivitaiUpdate) -> Card:
    facts = (("state", text(found.state)), ("version", text(found.version_id)))
    return Card(
        name=plain(found.asset.name),
        kind=str(found.asset.kind),
        base=str(found.asset.base),
        nbytes=None,
        licence=found.state,
        asset=found.asset.id,
        sections=(Section(plain(found.asset.name), facts),),
        download=None,
    )


def _licence(licence: Mapping[str, Any]) -> str:
    """What stands out: whether pictures may be sold and merges shared."""
    commercial = licence.get("commercial")
    told = [] if commercial is None else ["commercial" if commercial else "not commercial"]
    if licence.get("derivatives") is False:
        told.append("no merges")
    return plain(", ".join(told))


def _sections(model: Mapping[str, Any], version: Mapping[str, Any]) -> Iterator[Section]:
    facts = [
        ("model", model["name"]),
        ("version", version["name"]),
        ("by", model["creator"]),
        ("type", model["type"]),
        ("base", version["base_model"]),
        ("published", version["published"]),
        ("downloads", None if model["downloads"] is None else f"{model['downloads']:,}"),
        ("licence", _licence(model["licence"])),
        ("words", ", ".join(version["trained_words"])),
        ("page", model["url"]),
    ]
    yield Section(plain(str(model["name"])), tuple((k, text(v)) for k, v in facts if v))
    rows = [(size(file["bytes"]), text(file["name"])) for file in version["files"]]
    if rows:
        yield Section("Files", tuple(rows))
    described = version["description"] or model["description"]
    if described:
        words = " ".join(_TAG.sub(" ", str(described)).split())[:_DESCRIPTION]
        yield Section("Description", (("", text(words)),))
