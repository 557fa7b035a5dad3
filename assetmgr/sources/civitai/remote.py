"""A file on Civitai as bytes at positions: each read asks the site, which leads to its storage.

Range and Content-Range: RFC 9110.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from assetmgr.sources.civitai.site import address, refusal
from assetmgr.sources.remote import BLOCK_BYTES, RemoteBytes
from converters.errors import NotAvailable
from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    from assetmgr.sources.civitai.records import ModelFile
    from assetmgr.sources.web import Web

_PLACE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def open_remote(
    web: Web, version_id: str, file: ModelFile, progress: Progress = SILENT
) -> RemoteBytes:
    """The file, of which only what is asked for is fetched.

    The site tells sizes in rounded kilobytes: the first block tells the true one. Raises
    NotAvailable, FileMissing.
    """
    beginning, total = _range(web, version_id, file, 0, BLOCK_BYTES, progress)

    def fetch(start: int, count: int) -> bytes:
        if start + count <= len(beginning):
            return beginning[start : start + count]
        return _range(web, version_id, file, start, count, progress)[0]

    return RemoteBytes(file.name, total, fetch)


def _range(
    web: Web, version_id: str, file: ModelFile, start: int, count: int, progress: Progress
) -> tuple[bytes, int]:
    """Bytes of the file, and how many it has."""
    where = address(web, version_id, file.id).removeprefix(web.endpoint)
    headers = {"Accept-Encoding": "identity", "Range": f"bytes={start}-{start + count - 1}"}
    with web.open(where, file.name, headers=headers, progress=progress) as answer:
        if answer.status_code == HTTPStatus.OK:
            raise NotAvailable("the server gives no parts of files", path=file.name)
        if answer.status_code != HTTPStatus.PARTIAL_CONTENT:
            raise refusal(web, answer.status_code, web.read(answer, file.name), file.name)
        place = _PLACE.fullmatch(answer.headers.get("Content-Range", ""))
        data = web.read(answer, file.name, count)
    if place is None or int(place[1]) != start or len(data) != min(count, int(place[3]) - start):
        raise NotAvailable("the server gave another part of the file", path=file.name)
    return data, int(place[3])
