"""Which addresses are safe: TLS but on this machine, no way into private networks, one token home.

Works on the addresses of both HTTP clients in use (httpx, and huggingface_hub's), which are alike.
"""

from __future__ import annotations

import ipaddress
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies

from converters.errors import BadValue, NotAvailable


class Address(Protocol):
    """A parsed web address."""

    @property
    def scheme(self) -> str:
        """`http` or `https`."""

    @property
    def host(self) -> str:
        """A name or number, without brackets."""

    @property
    def port(self) -> int | None:
        """None for the usual one of the scheme."""


def home_of(text: str, setting: str) -> str:
    """The address of a service as it was set, without a slash at its end.

    Raises NotAvailable for what is no address, BadValue for one that would give something away: a
    name and password, or plain http to another machine.
    """
    try:
        parts = urlsplit(text.rstrip("/"))
        host, is_secret = parts.hostname or "", "@" in parts.netloc
        _ = parts.port
    except ValueError:
        host, is_secret, parts = "", False, urlsplit("")
    if parts.scheme not in {"http", "https"} or not host or not text.isascii() or " " in text:
        raise NotAvailable(f"{setting} is not a web address", hint="unset it")
    if is_secret:  # the address is kept with every asset, where no password belongs
        raise BadValue(f"{setting} cannot hold a name and password")
    if parts.scheme == "http" and not is_loopback(host):
        raise BadValue(f"{setting} must begin with https://", hint="http is for this machine only")
    return text.rstrip("/")


def same_origin(one: Address, other: Address) -> bool:
    """Whether two addresses are of one scheme, host and port: the ones that share a token."""
    return _origin(one) == _origin(other)


def _origin(url: Address) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)


def may_follow(home: Address, target: Address) -> bool:
    """Whether a redirect is safe: encrypted but on this machine, not into private networks."""
    if target.scheme not in {"http", "https"} or not target.host:
        return False
    if target.scheme == "http" and (home.scheme == "https" or not is_loopback(target.host)):
        return False
    return is_private(home.host) or not is_private(target.host)


def has_proxy() -> bool:
    """Whether the environment names one: then no connection is direct."""
    return bool(getproxies().keys() - {"no"})


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_private(host: str) -> bool:
    """Whether a host is not of the public network, as far as its name tells."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal"))
