"""A small server on loopback that speaks Civitai's routes; files come from another host.

Routes and fields: the site's own code, `civitai/civitai` `src/pages/api/v1/**` and
`src/pages/api/download/models/[modelVersionId].ts`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from blake3 import blake3
from helpers.loopback import Handler, TwoHosts

Document = dict[str, Any]


@dataclass
class CivitaiServer(TwoHosts):
    """Serves `models` (as the site describes them) and the bytes of files by their numbers.

    Requests are written down as method, path with query, and range; the other host's begin with
    `cdn`.
    """

    models: list[Document] = field(default_factory=list)
    contents: dict[int, bytes] = field(default_factory=dict)
    tags: bool = True
    """Whether files have an ETag."""
    page: int = 2
    """Models on a page of a search."""
    location: str | None = None
    """Where downloads lead, if not to the other host."""
    file_headers: dict[str, str] = field(default_factory=dict)
    unchanged: int = 0
    """How many answers were that nothing has changed."""

    @property
    def handler(self) -> type[Handler]:
        """What answers for the site."""
        return _Handler

    @property
    def fetched(self) -> list[str]:
        """The requests that reached the bytes of a file."""
        return [line for line in self.requests if line.startswith("cdn ")]

    def add(
        self, number: int, files: Mapping[str, bytes], *, model: int | None = None, **fields: object
    ) -> Document:
        """A version with files; in a model of its own unless that is there. Gives the version."""
        listed = []
        for place, (name, content) in enumerate(files.items()):
            file_number = number * 10 + place
            self.contents[file_number] = content
            listed.append(_file(file_number, name, content, primary=not place))
        version: Document = {
            "id": number,
            "name": f"v{number}",
            "baseModel": "SD 1.5",
            "trainedWords": [],
            "publishedAt": "2024-01-02T03:04:05.000Z",
            "files": listed,
            **fields,
        }
        owner = number + 1000 if model is None else model
        self._model(owner)["modelVersions"].append(version)
        return version

    def _model(self, number: int) -> Document:
        for known in self.models:
            if known["id"] == number:
                return known
        made: Document = {
            "id": number,
            "name": f"Model {number}",
            "type": "LORA",
            "nsfw": False,
            "creator": {"username": "somebody"},
            "tags": ["style"],
            "stats": {"downloadCount": 1234},
            "allowNoCredit": True,
            "allowCommercialUse": ["Image", "Rent"],
            "allowDerivatives": True,
            "allowDifferentLicense": False,
            "modelVersions": [],
        }
        self.models.append(made)
        return made

    def versions(self) -> list[Document]:
        """All versions as their own route gives them: with the number and name of their model."""
        return [
            {
                **version,
                "modelId": model["id"],
                "model": {"name": model["name"], "type": model["type"]},
            }
            for model in self.models
            for version in model["modelVersions"]
        ]

    def with_hash(self, digest: str) -> list[Document]:
        """The versions of which a file has a hash, of any sort."""
        return [
            version
            for version in self.versions()
            if any(digest.upper() in file["hashes"].values() for file in version["files"])
        ]


def _file(number: int, name: str, content: bytes, *, primary: bool) -> Document:
    sha256 = hashlib.sha256(content).hexdigest().upper()
    hashes = {
        "SHA256": sha256,
        "AutoV2": sha256[:10],
        "BLAKE3": blake3(content).hexdigest().upper(),
    }
    if name.endswith(".safetensors"):
        start = 8 + int.from_bytes(content[:8], "little")
        hashes["AutoV3"] = hashlib.sha256(content[start:]).hexdigest().upper()[:12]
    return {
        "id": number,
        "name": name,
        "type": "Model",
        "sizeKB": len(content) / 1024,
        "primary": primary,
        "metadata": {"format": "SafeTensor", "size": "pruned", "fp": "fp16"},
        "hashes": hashes,
        "pickleScanResult": "Success",
        "virusScanResult": "Success",
    }


class _Handler(Handler):
    hosts: ClassVar[CivitaiServer]

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        if self.noted(parts.path, f"{'cdn ' * (self.host == 'cdn')}{self.command} {self.path}"):
            return
        if self.host == "cdn":
            self._content(self.hosts.contents[int(parts.path.rsplit("/", 1)[1])])
            return
        self._route(parts.path, parse_qs(parts.query), body)

    def _route(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        if path == "/api/v1/models":
            self._json(200, self._page(query))
        elif path == "/api/v1/me":
            self._me()
        elif path == "/api/v1/model-versions/by-hash":
            found = [v for digest in json.loads(body) for v in self.hosts.with_hash(digest)]
            self._json(200, found)
        elif match := re.fullmatch(r"/api/v1/model-versions/by-hash/(\w+)", path):
            self._first(self.hosts.with_hash(match[1]))
        elif match := re.fullmatch(r"/api/v1/model-versions/(\d+)", path):
            self._first([v for v in self.hosts.versions() if v["id"] == int(match[1])])
        elif match := re.fullmatch(r"/api/v1/models/(\d+)", path):
            self._first([m for m in self.hosts.models if m["id"] == int(match[1])])
        elif match := re.fullmatch(r"/api/download/models/(\d+)", path):
            number = query["fileId"][0]
            place = self.hosts.location or f"{self.hosts.cdn}/signed/{number}?signature=s3cret"
            self.send(302, b"", {"Location": place})
        else:
            self._json(404, {"error": "not found"})

    def _me(self) -> None:
        if (name := self.user()) is None:
            self._json(401, {"error": "Unauthorized"})
        else:
            self._json(200, {"id": 1, "username": name})

    def _page(self, query: dict[str, list[str]]) -> Document:
        wanted = [
            model
            for model in self.hosts.models
            if query.get("query", [""])[0].lower() in model["name"].lower()
            and model["type"] in query.get("types", [model["type"]])
        ]
        start = int(query.get("cursor", ["0"])[0])
        end = start + min(self.hosts.page, int(query["limit"][0]))
        more = {"nextCursor": str(end)} if end < len(wanted) else {}
        return {"items": wanted[start:end], "metadata": more}

    def _first(self, found: list[Document]) -> None:
        if found:
            self._json(200, found[0])
        else:
            self._json(404, {"error": "Model not found"})

    def _json(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        tag = f'W/"{hashlib.md5(body).hexdigest()}"'
        headers = {"Content-Type": "application/json", "ETag": tag}
        if status == 200 and self.headers.get("If-None-Match") == tag:
            self.hosts.unchanged += 1
            self.send(304, b"", headers)
        else:
            self.send(status, body, headers)

    def _content(self, data: bytes) -> None:
        tag = {"ETag": f'"{hashlib.md5(data).hexdigest()}"'} if self.hosts.tags else {}
        kind = {"Content-Type": "binary/octet-stream"}
        self.send_file(data, {**kind, **self.hosts.file_headers, **tag})
