"""Repositories of the Hugging Face Hub as cards, and the files in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from converters.errors import AssetmgrError
from tui.cards import Ask, Card, failed, peeked, queued
from tui.sections import Section, text
from tui.text import plain, size

if TYPE_CHECKING:
    from assetmgr.operations.hub.find import HubFound
    from assetmgr.operations.hub.plan import Download
    from assetmgr.operations.hub.updates import HubUpdate
    from assetmgr.workspace import Workspace
    from converters.progress import Progress

_REPO = re.compile(r"[\w.-]+/[\w.-]+(?:@[\w./-]+)?")
_GATED = "asks for access"


class OnHub:
    """The Hub, for a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def search(self, ask: Ask, progress: Progress) -> Iterator[Card]:
        """Repositories, or the files of the one that is named.

        Raises BadValue, FileMissing, NotAvailable, Cancelled.
        """
        from assetmgr.operations.hub.find import HubSearch, search

        wanted = ask.text.strip()
        if _REPO.fullmatch(wanted):
            yield from self._files(wanted, progress)
            return
        query = HubSearch(
            wanted,
            kind=ask.kind or None,
            base=ask.base or None,
            sort=ask.sort or None,
            limit=ask.most,
        )
        for found in search(self._workspace, query, progress):
            yield _repository(found)

    def _files(self, wanted: str, progress: Progress) -> Iterator[Card]:
        from assetmgr.operations.failures import Failure
        from assetmgr.operations.hub.address import parse_named
        from assetmgr.operations.hub.find import info
        from assetmgr.operations.hub.plan import DownloadRequest, plan_download
        from assetmgr.operations.hub.select import whole_model

        named = parse_named(wanted)
        repo, revision = named.repo, named.revision
        told = info(self._workspace, repo, revision, progress)
        about = _about(told.found, told.summary)
        planned = list(plan_download(self._workspace, DownloadRequest(repo, revision), progress))
        listed = {each.file.name: each for each in planned if not isinstance(each, Failure)}
        for found in planned:
            if isinstance(found, Failure):
                yield failed(found.path or repo, found.error)
            else:
                whole = [listed[name] for name in whole_model([*listed], found.file.name)]
                yield self._file(found, whole, told.found, about)

    def _file(
        self,
        found: Download,
        whole: Sequence[Download],
        of: HubFound,
        about: tuple[Section, ...],
    ) -> Card:
        """A file of a repository; `whole` is the model that it is a part of."""
        file = found.file
        in_all = sum(each.file.size or 0 for each in whole)
        facts = (
            ("repository", text(file.repo)),
            ("revision", text(file.commit)),
            ("size", text(size(file.size))),
            *((("of", text(f"{len(whole)} files, {size(in_all)}")),) if len(whole) > 1 else ()),
            ("sha256", text(file.sha256 or "not told")),
            ("from", text(file.url)),
        )
        return Card(
            name=plain(file.name),
            kind=of.kind,
            base=of.base,
            nbytes=file.size,
            licence=plain(of.model.licence or ""),
            asset=found.known.id if found.known else None,
            sections=(Section(plain(file.name), facts), *about),
            download=partial(self._queue, whole),
            peek=partial(self._peek, found),
            sha256=file.sha256,
            beside=len(whole) - 1,
        )

    def _queue(self, whole: Sequence[Download], progress: Progress) -> str:
        from assetmgr.operations.downloads.placing import Destination
        from assetmgr.operations.downloads.queue import enqueue
        from assetmgr.operations.hub.receive import wanted_of

        wanted = [wanted_of(self._workspace, each, Destination()) for each in whole]
        return queued(enqueue(self._workspace, wanted))

    def _peek(self, found: Download, progress: Progress) -> str:
        from assetmgr.operations.peek import hub_peek

        file = found.file
        return peeked(hub_peek(self._workspace, file.repo, file.name, file.commit))

    # ---- what is newer

    def updates(self, progress: Progress) -> Iterator[Card]:
        """Every asset that came from the Hub. Raises NotAvailable, Cancelled."""
        from assetmgr.operations.failures import Failure
        from assetmgr.operations.hub.updates import updates

        for found in updates(self._workspace, (), progress):
            if isinstance(found, Failure):
                yield failed(found.path or "", found.error)
            else:
                yield self._update(found)

    def _update(self, found: HubUpdate) -> Card:
        source, newest = found.source, found.model.commit
        facts = (
            ("asset", text(f"{found.asset.name}  #{found.asset.id}")),
            ("state", text(found.state, "$warning bold" if found.state == "newer" else "")),
            ("repository", text(source.repo or "")),
            ("file", text(source.file or "")),
            ("have", text(source.revision or "not known")),
            ("newest", text(newest or "not told")),
            ("changed", text(found.model.modified or "not told")),
        )
        has = found.replacement if found.state == "newer" else found.asset.id
        fetch = partial(self._queue_newest, source.repo or "", newest, source.file or "")
        return Card(
            name=plain(f"{source.repo}: {source.file}"),
            kind=str(found.asset.kind),
            base=str(found.asset.base),
            nbytes=found.file.size if found.file else None,
            licence=found.state,
            asset=has,
            sections=(Section(plain(found.asset.name), facts),),
            download=fetch if found.state == "newer" and has is None else None,
            sha256=found.file.sha256 if found.file else None,
        )

    def _queue_newest(self, repo: str, commit: str | None, file: str, progress: Progress) -> str:
        from assetmgr.operations.failures import Failure
        from assetmgr.operations.hub.plan import DownloadRequest, plan_download

        (found,) = plan_download(self._workspace, DownloadRequest(repo, commit, (file,)))
        if isinstance(found, Failure):
            raise AssetmgrError(found.error, path=found.path, hint=found.hint)
        return self._queue([found], progress)


def _repository(found: HubFound) -> Card:
    return Card(
        name=plain(found.model.repo),
        kind=found.kind,
        base=found.base,
        nbytes=None,
        licence=plain(found.model.licence or ""),
        asset=next(iter(found.assets), None),
        sections=_about(found, None),
        download=None,
        opens=found.model.repo,
    )


def _about(found: HubFound, summary: str | None) -> tuple[Section, ...]:
    """What the Hub and the page of a repository say of it."""
    model = found.model
    facts = (
        ("kind", " ".join(word for word in (found.kind, found.base) if word != "unknown")),
        ("by", model.author),
        ("licence", model.licence),
        ("access", _GATED if model.gated else "private" if model.private else None),
        ("downloads", None if model.downloads is None else f"{model.downloads:,}"),
        ("likes", None if model.likes is None else f"{model.likes:,}"),
        ("changed", model.modified),
        ("made from", ", ".join(model.base_models)),
        ("page", model.url),
    )
    rows = tuple((name, text(value)) for name, value in facts if value)
    said = (Section("Its page says", (("", text(summary)),)),) if summary else ()
    return (Section(plain(model.repo), rows), *said)
