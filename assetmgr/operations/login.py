"""Tokens of services: taken in once, checked with the service, kept for its address alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from assetmgr.sources.civitai import site as civitai
from assetmgr.sources.hub import account as hub_account
from assetmgr.sources.hub import client as hub_client
from assetmgr.sources.patience import Unreachable
from assetmgr.sources.tokens import checked, forget_token, store_token
from converters.progress import SILENT, Progress


@dataclass(frozen=True, slots=True)
class Service:
    """What a service is called, the variables that go before what is stored, and its address."""

    name: str
    variables: tuple[str, ...]
    address: Callable[[], str]
    whose: Callable[[str, Progress], str | None]


SERVICES: Mapping[str, Service] = {
    "hub": Service("the Hub", hub_client.TOKENS, hub_client.endpoint, hub_account.whose),
    "civitai": Service("Civitai", civitai.TOKENS, civitai.endpoint, civitai.whose),
}
"""What users call a service -> the service."""


@dataclass(frozen=True, slots=True)
class Login:
    """Where a token is kept: `keyring` or a file. `user` is None where the service did not say.

    `checked` is whether the service was asked; `overridden_by` a variable that goes before it.
    """

    service: str
    address: str
    place: str
    user: str | None
    checked: bool
    overridden_by: str | None

    def to_json(self) -> dict[str, object]:
        """The document, without its errors."""
        return {
            "service": self.service,
            "address": self.address,
            "place": self.place,
            "user": self.user,
            "checked": self.checked,
            "overridden_by": self.overridden_by,
        }


def login(service: str, secret: str, progress: Progress = SILENT) -> Login:
    """Keep a token that the service accepts; one that is not reached is not asked.

    Raises BadValue for what cannot be a token, NotAvailable for one that is refused, WriteProblem.
    """
    row = SERVICES[service]
    token, address = checked(secret, "the token"), row.address()
    try:
        user, was_asked = row.whose(token, progress), True
    except Unreachable:
        user, was_asked = None, False
    place = store_token(token, address)
    first = next((name for name in row.variables if os.environ.get(name)), None)
    return Login(service, address, place, user, was_asked, first)


def logout(service: str) -> tuple[str, bool]:
    """Forget the token of a service; its address, and False where none was kept."""
    address = SERVICES[service].address()
    return address, forget_token(address)
