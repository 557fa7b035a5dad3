"""The doctor's questions about the Hub and Civitai: cache, tokens, addresses; without network."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from assetmgr.operations.doctor.check import Check, is_file, is_folder
from assetmgr.sources import tokens
from assetmgr.sources.civitai import site as civitai
from assetmgr.sources.hub import client as hub_client
from assetmgr.sources.hub.cache import cache_folder, hub_home
from converters.errors import BadValue, FileProblem, NotAvailable

_HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_YES = frozenset({"1", "on", "yes", "true"})
"""What huggingface_hub takes for true (its `constants.py`, also the source of the places below)."""


def hub_cache(environment: Mapping[str, str]) -> Check:
    """The folder that huggingface_hub downloads to, and how many models are in it."""
    folder = cache_folder(environment)
    if not is_folder(folder):
        return Check("hub cache", ok=True, detail=f"{folder} is not there: nothing downloaded")
    try:
        models = sum(1 for _ in folder.glob("models--*"))
    except OSError as error:
        hint = "check the permissions of the folder"
        detail = f"{folder} cannot be read: {error.strerror}"
        return Check("hub cache", ok=False, detail=detail, hint=hint)
    return Check("hub cache", ok=True, detail=f"{folder}, {models} models")


def hub_token(environment: Mapping[str, str]) -> Check:
    """Whether there is a token for the Hub; the token itself is not read."""
    check = _token("hub token", _HUB_TOKENS, hub_client.endpoint, environment)
    stated = environment.get("HF_TOKEN_PATH")
    file = Path(stated).expanduser() if stated else hub_home(environment) / "token"
    if check is not None:
        return check
    told = f"from {file}" if is_file(file) else "none: public repositories only"
    return Check("hub token", ok=True, detail=told)


def civitai_token(environment: Mapping[str, str]) -> Check:
    """Whether there is a token for Civitai."""
    check = _token("civitai token", civitai.TOKENS, civitai.endpoint, environment)
    return check or Check("civitai token", ok=True, detail="none: some downloads need one")


def _token(
    name: str,
    variables: tuple[str, ...],
    address: Callable[[Mapping[str, str]], str],
    environment: Mapping[str, str],
) -> Check | None:
    """Which token is used: that of a variable or that of `login`; None without one."""
    variable = _first_set(environment, variables)
    if variable is not None:
        return Check(name, ok=True, detail=f"from {variable}")
    try:
        place = tokens.kept_at(address(environment), environment)
    except (BadValue, NotAvailable):  # the check of the address says so
        return None
    except FileProblem as error:
        return Check(name, ok=False, detail=str(error), hint="log in again")
    if isinstance(place, Path) and os.name == "posix" and place.stat().st_mode & 0o077:
        hint = f"chmod 600 {shlex.quote(str(place))}"
        return Check(name, ok=False, detail=f"others can read {place}", hint=hint)
    return None if place is None else Check(name, ok=True, detail=f"from {place}")


def hub_endpoint(environment: Mapping[str, str]) -> Check:
    """The Hub's address, and whether it may be used."""
    offline = environment.get("HF_HUB_OFFLINE", "").lower() in _YES
    note = ", not used: HF_HUB_OFFLINE is set" if offline else ""
    return _endpoint("hub address", environment, "HF_ENDPOINT", "https://huggingface.co", note)


def civitai_endpoint(environment: Mapping[str, str]) -> Check:
    """Civitai's address."""
    return _endpoint("civitai address", environment, "CIVITAI_ENDPOINT", civitai.HOME)


def _endpoint(
    name: str, environment: Mapping[str, str], variable: str, default: str, note: str = ""
) -> Check:
    shown = _shown(environment.get(variable) or default)
    if shown is None:
        hint = f"it looks like {default}"
        return Check(name, ok=False, detail=f"{variable} is not a web address", hint=hint)
    return Check(name, ok=True, detail=shown + note)


def _shown(address: str) -> str | None:
    """A web address without user, password and query, which may be secrets; None for no address."""
    try:
        parts = urlsplit(address)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return None
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


def _first_set(environment: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if environment.get(name)), None)
