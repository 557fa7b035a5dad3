"""Civitai and the Hugging Face Hub as the screen shows them.

Everything here blocks and is called in threads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from converters.errors import AssetmgrError, BadValue
from tui.bridge import Work
from tui.sections import Section, text
from tui.text import plain, size

if TYPE_CHECKING:
    from assetmgr.operations.hub import Download
    from assetmgr.operations.peek import Peek
    from assetmgr.workspace import Workspace
    from converters.progress import Progress

SERVICES = (("civitai", "Civitai"), ("huggingface", "Hugging Face Hub"))
KINDS = ("", "checkpoint", "lora", "embedding", "hypernetwork", "vae", "controlnet", "upscaler")
_REPO = re.compile(r"[\w.-]+/[\w.-]+(?:@[\w./-]+)?")
_MOST_FOUND = 60
_DESCRIPTION = 1200
_TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True, slots=True)
class Card:
    """A file that a service has: what a list shows of it, all of it inert text.

    `asset` is the number of the asset that already is it. `download` fetches it; `peek`, where the
    service can be looked into, tells what it is.
    """

    name: str
    kind: str
    base: str
    nbytes: int | None
    licence: str
    asset: int | None
    sections: tuple[Section, ...]
    download: Work | None
    peek: Work | None = None


class Remote:
    """The services, for a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def search(self, service: str, wanted: str, kind: str, progress: Progress) -> tuple[Card, ...]:
        """What a service has. Raises BadValue, FileMissing, NotAvailable, Cancelled."""
        if service == "huggingface":
            return tuple(self._repository(wanted, progress))
        return tuple(self._civitai(wanted, kind, progress))

    # ---- Civitai

    def _civitai(self, wanted: str, kind: str, progress: Progress) -> Iterator[Card]:
        from assetmgr.operations.civitai import info, search
        from assetmgr.sources.civitai import Search

        if wanted.strip().lstrip("@").isdecimal() or "/models/" in wanted:
            models = [info(self._workspace, wanted.strip(), progress)]
        else:
            query = Search(wanted.strip(), kind=kind or None, limit=_MOST_FOUND)
            models = list(search(self._workspace, query, progress))
        for model in models:
            yield from self._cards(model)

    def _cards(self, model: Mapping[str, Any]) -> Iterator[Card]:
        for version in model["versions"]:
            files = version["files"]
            file = next((each for each in files if each["primary"]), files[0] if files else None)
            known = None if file is None else file["asset"]
            download = None if file is None else partial(self._fetch_version, version["id"])
            yield Card(
                name=plain(f"{model['name']} · {version['name'] or version['id']}"),
                kind=plain(str(model["kind"] or model["type"] or "")),
                base=plain(str(version["base_model"] or version["base"])),
                nbytes=None if file is None else file["bytes"],
                licence=_licence(model["licence"]),
                asset=known,
                sections=tuple(_civitai_sections(model, version)),
                download=download,
            )

    def _fetch_version(self, version: str, progress: Progress) -> str:
        from assetmgr.operations.civitai_download import run_civitai_download

        done = run_civitai_download(self._workspace, version, progress=progress)
        return f"{done.state}: {done.path}"

    # ---- the Hub

    def _repository(self, wanted: str, progress: Progress) -> Iterator[Card]:
        from assetmgr.operations.failures import Failure
        from assetmgr.operations.hub import DownloadRequest, parse_repo, plan_download

        if not _REPO.fullmatch(wanted.strip()):
            raise BadValue("the Hub is asked for a repository", hint="such as ORG/NAME")
        repo, revision = parse_repo(wanted.strip())
        for found in plan_download(self._workspace, DownloadRequest(repo, revision)):
            progress.advance(0)
            if isinstance(found, Failure):
                yield _failed(found.path or repo, found.error)
                continue
            yield self._hub_card(found)

    def _hub_card(self, found: Download) -> Card:
        file = found.file
        facts = (
            ("repository", text(file.repo)),
            ("revision", text(file.commit)),
            ("size", text(size(file.size))),
            ("sha256", text(file.sha256 or "not told")),
            ("from", text(file.url)),
        )
        return Card(
            name=plain(file.name),
            kind="",
            base="",
            nbytes=file.size,
            licence="",
            asset=found.known.id if found.known else None,
            sections=(Section(plain(file.name), facts),),
            download=partial(self._fetch_file, found),
            peek=partial(self._peek, found),
        )

    def _fetch_file(self, found: Download, progress: Progress) -> str:
        from assetmgr.operations.hub import run_download

        done = run_download(self._workspace, found, progress=progress)
        return f"{done.state}: {done.path}"

    def _peek(self, found: Download, progress: Progress) -> str:
        from assetmgr.operations.peek import peek

        file = found.file
        seen = peek(self._workspace, file.repo, file.name, file.commit)
        return _peeked(seen)


def _peeked(seen: Peek) -> str:
    inspection = seen.inspection
    if inspection.failure is not None and inspection.model is None:
        raise AssetmgrError(inspection.failure.error, path=str(inspection.path))
    identity = inspection.identity
    assert identity is not None  # what was opened is identified
    safety = inspection.safety.verdict.value if inspection.safety else "unknown"
    kind = ", ".join([str(identity.kind), *identity.algorithm])
    return f"{kind}, {identity.base}, {safety}; {size(seen.received)} read"


def _failed(name: str, error: str) -> Card:
    rows = (("", text(error, "$error")),)
    return Card(plain(name), "", "", None, "", None, (Section(plain(name), rows),), None)


def _licence(licence: Mapping[str, Any]) -> str:
    """What stands out: whether pictures may be sold and merges shared."""
    commercial = licence.get("commercial")
    told = [] if commercial is None else ["commercial" if commercial else "not commercial"]
    if licence.get("derivatives") is False:
        told.append("no merges")
    return plain(", ".join(told))


def _civitai_sections(model: Mapping[str, Any], version: Mapping[str, Any]) -> Iterator[Section]:
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
