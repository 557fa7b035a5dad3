"""A small server on loopback that speaks the Hub's routes: a search, and one repository.

Routes and headers as huggingface_hub's client uses them (`file_download.py`, `hf_api.py`). As on
the Hub, model files are announced by their SHA-256 and handed out by another host, small files by
the name git gives them.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from helpers.loopback import Handler, TwoHosts
from helpers.waiting import PATIENCE

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = frozenset({".safetensors", ".ckpt", ".pt", ".bin"})


@dataclass
class HubServer(TwoHosts):
    """Serves `files` of `repo`; `announced` replaces the hash a file is announced with.

    Requests are written down as method, path and range; files of the other host are below `/cdn/`.
    """

    repo: str
    files: dict[str, bytes]
    announced: dict[str, str] = field(default_factory=dict)
    refusal: tuple[int, str | None] | None = None
    """Status and `X-Error-Code` with which every file is refused."""
    xet: bool = False
    """Whether files of the other host are announced as those of Xet storage are."""
    commit: str = COMMIT
    """What `main` is."""
    about: dict[str, Any] = field(default_factory=dict)
    """Fields of the repository's answer: `tags`, `gated`, `cardData`, …"""
    models: list[dict[str, Any]] = field(default_factory=list)
    """What a search finds, in this order, page by page."""
    page: int = 2
    sizes: bool = True
    """Whether the list of files tells sizes and hashes; that of some mirrors does not."""
    queries: list[dict[str, list[str]]] = field(default_factory=list)
    """The parameters of every search."""
    together: threading.Barrier | None = None
    """Where requests for files of the other host wait until enough of them are there."""

    def sha256(self, name: str) -> str:
        """The hash the server announces."""
        return self.announced.get(name) or hashlib.sha256(self.files[name]).hexdigest()

    @property
    def handler(self) -> type[Handler]:
        """What answers for the Hub."""
        return _Handler

    @property
    def fetched(self) -> list[str]:
        """The requests that asked for the bytes of a file."""
        return [line for line in self.requests if line.startswith("GET") and "/api/" not in line]


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Handler(Handler):
    hosts: ClassVar[HubServer]

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if self.noted(path, f"{self.command} {path}"):
            return
        if self.host == "cdn":
            self._large(path.removeprefix("/cdn/"))
        elif path == "/api/whoami-v2":
            self._whoami()
        elif path == "/api/models":
            self._search(parse_qs(urlsplit(self.path).query))
        elif path.startswith("/api/models/"):
            self._model(path.removeprefix("/api/models/"))
        elif path.startswith(f"/{self.hosts.repo}/resolve/"):
            revision, _, name = path.split("/resolve/", 1)[1].partition("/")
            self._file(revision, name)
        else:
            self._error(404, "RepoNotFound")

    def _large(self, name: str) -> None:
        if self.hosts.together is not None:
            self.hosts.together.wait(PATIENCE)
        if name in self.hosts.files:
            self.send_file(self.hosts.files[name], {})
        else:
            self._error(404, "EntryNotFound")

    def _whoami(self) -> None:
        if (name := self.user()) is None:
            self._error(401, None)
        else:
            self._json({"name": name, "type": "user"})

    def _search(self, query: dict[str, list[str]]) -> None:
        self.hosts.queries.append(query)
        wanted = set(query.get("filter", []))
        text = query.get("search", [""])[0].lower()
        found = [
            model
            for model in self.hosts.models
            if text in model["id"].lower() and wanted <= set(model["tags"])
        ]
        start = int(query.get("cursor", ["0"])[0])
        end = start + self.hosts.page
        headers = {}
        if end < len(found):
            following = urlencode({**query, "cursor": [str(end)]}, doseq=True)
            headers["Link"] = f'<{self.hosts.url}/api/models?{following}>; rel="next"'
        self._json(found[start:end], headers)

    def _json(self, document: object, headers: dict[str, str] | None = None) -> None:
        kind = {"Content-Type": "application/json"}
        self.send(200, json.dumps(document).encode(), {**kind, **(headers or {})})

    def _model(self, rest: str) -> None:
        repo, _, revision = rest.partition("/revision/")
        if repo != self.hosts.repo:
            self._error(404, "RepoNotFound")
        elif revision and revision not in {"main", self.hosts.commit}:
            self._error(404, "RevisionNotFound")
        else:
            siblings = [self._sibling(name) for name in self.hosts.files]
            about = {"tags": [], "gated": False, **self.hosts.about}
            self._json({"id": repo, "sha": self.hosts.commit, "siblings": siblings, **about})

    def _sibling(self, name: str) -> dict[str, Any]:
        data = self.hosts.files[name]
        if not self.hosts.sizes:
            return {"rfilename": name}
        told: dict[str, Any] = {"rfilename": name, "size": len(data)}
        told["blobId"] = self.hosts.announced.get(name) or _blob(data)
        if PurePosixPath(name).suffix in LARGE:
            told["lfs"] = {"sha256": self.hosts.sha256(name), "size": len(data), "pointerSize": 134}
        return told

    def _file(self, revision: str, name: str) -> None:
        data = self.hosts.files.get(name)
        if self.hosts.refusal is not None:
            self._error(*self.hosts.refusal)
        elif revision not in {"main", self.hosts.commit}:
            self._error(404, "RevisionNotFound")
        elif data is None:
            self._error(404, "EntryNotFound")
        elif PurePosixPath(name).suffix in LARGE:
            headers = {
                "Location": f"{self.hosts.cdn}/cdn/{quote(name)}",
                "X-Linked-Etag": f'"{self.hosts.sha256(name)}"',
                "X-Linked-Size": str(len(data)),
                "X-Repo-Commit": self.hosts.commit,
            }
            if self.hosts.xet:
                headers |= {
                    "X-Xet-Hash": hashlib.sha256(name.encode()).hexdigest(),
                    "Link": f'<{self.hosts.url}/api/xet-read-token>; rel="xet-auth", '
                    f'<{self.hosts.url}/api/xet-reconstruction>; rel="xet-reconstruction-info"',
                }
            self.send(302, b"", headers)
        else:
            tag = self.hosts.announced.get(name, _blob(data))
            self.send_file(data, {"ETag": f'"{tag}"', "X-Repo-Commit": self.hosts.commit})

    def _error(self, status: int, code: str | None) -> None:
        codes = {} if code is None else {"X-Error-Code": code}
        self.send(status, b"", {**codes, "X-Repo-Commit": self.hosts.commit})
