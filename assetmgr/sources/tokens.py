"""The tokens of services: from the environment, or from where `login` put them.

A token belongs to one origin, and is given out for no other: a mirror does not get the token of the
service that it mirrors. `login` prefers the system's keyring (the optional package `keyring`);
without one the token lies in a file that only its owner may read.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from assetmgr.paths import find_paths
from converters.errors import BadValue, CorruptFile, FileUnreadable, NotAvailable
from converters.writers.atomic import write_whole

KEYRING = "keyring"
_SERVICE = "assetmgr"
_LONGEST = 4096
_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Token:
    """A token and where it is from: a variable, `keyring`, or a file."""

    secret: str
    place: str

    def __repr__(self) -> str:
        """Without the secret, which must be in no log."""
        return f"Token(place={self.place!r})"


def find_token(
    names: tuple[str, ...], home: str, environment: Mapping[str, str] = os.environ
) -> Token | None:
    """The token for a service at an address: of the first variable that is set, or that of `login`.

    Raises BadValue for what cannot be a token, CorruptFile and FileUnreadable for the file.
    """
    name = next((name for name in names if environment.get(name, "").strip()), None)
    if name is not None:
        return Token(checked(environment[name], name), name)
    file = find_paths(environment).tokens
    entry = _read(file).get(origin_of(home))
    if entry == KEYRING:
        return _from_keyring(origin_of(home))
    return None if entry is None else Token(checked(entry, str(file)), str(file))


def store_token(secret: str, home: str, environment: Mapping[str, str] = os.environ) -> str:
    """Keep a token for an address; gives where: `keyring` or the file.

    Raises BadValue for what cannot be a token, WriteProblem.
    """
    token, file, origin = checked(secret, "this"), find_paths(environment).tokens, origin_of(home)
    try:
        others = _read(file)
    except CorruptFile:  # what nobody can read is no reason not to log in
        others = {}
    is_kept = _into_keyring(origin, token)
    entries = {**others, origin: KEYRING if is_kept else token}
    _write(file, entries)
    return KEYRING if is_kept else str(file)


def forget_token(home: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Remove what `store_token` kept for an address; False when there was nothing."""
    file, origin = find_paths(environment).tokens, origin_of(home)
    entries = _read(file)
    if origin not in entries:
        return False
    if entries.pop(origin) == KEYRING:
        _out_of_keyring(origin)
    _write(file, entries)
    return True


def kept_at(home: str, environment: Mapping[str, str] = os.environ) -> Path | str | None:
    """Where `store_token` keeps one for an address: `keyring` or the file; None without one.

    Raises CorruptFile, FileUnreadable.
    """
    file = find_paths(environment).tokens
    entry = _read(file).get(origin_of(home))
    return None if entry is None else KEYRING if entry == KEYRING else file


def checked(text: str, place: str) -> str:
    """The token in a text. Raises BadValue, without repeating it, for what cannot be one."""
    token = text.strip()
    if not token.isascii() or not token.isprintable() or " " in token or len(token) > _LONGEST:
        raise BadValue(f"{place} cannot be a token: it has odd characters")
    if not token:
        raise BadValue(f"{place} is empty")
    return token


def origin_of(home: str) -> str:
    """Scheme, host and port of an address."""
    parts = urlsplit(home)
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _read(file: Path) -> dict[str, str]:
    """Origin -> token, or `keyring` for one that lies there."""
    try:
        document = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise FileUnreadable(f"cannot be read: {error.strerror}", path=file) from error
    except ValueError:  # never chained: its text may hold a token
        raise CorruptFile("is not the file of tokens", path=file, hint="log in again") from None
    entries = document if isinstance(document, dict) else {}
    return {name: entry for name, entry in entries.items() if isinstance(entry, str)}


def _write(file: Path, entries: Mapping[str, str]) -> None:
    if not entries:
        file.unlink(missing_ok=True)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(entries, indent=2).encode(), overwrite=True, mode=_MODE)


def _from_keyring(origin: str) -> Token:
    keyring, secret = _keyring(), None
    if keyring is not None:
        from keyring.errors import KeyringError

        with contextlib.suppress(KeyringError):
            secret = keyring.get_password(_SERVICE, origin)
    if secret is None:
        cause, hint = "the keyring does not give the token", "unlock it, or log in again"
        raise NotAvailable(cause, path=origin, hint=hint)
    return Token(checked(secret, "what the keyring holds"), KEYRING)


def _into_keyring(origin: str, secret: str) -> bool:
    """Whether the keyring took it; one that is locked or broken does not."""
    keyring = _keyring()
    if keyring is None:
        return False
    from keyring.errors import KeyringError

    try:
        keyring.set_password(_SERVICE, origin, secret)
    except KeyringError:
        return False
    return True


def _out_of_keyring(origin: str) -> None:
    keyring = _keyring()
    if keyring is None:
        return
    from keyring.errors import KeyringError

    with contextlib.suppress(KeyringError):  # it may be gone already
        keyring.delete_password(_SERVICE, origin)


def _keyring() -> ModuleType | None:
    """The package, where it is installed and has found a place that keeps secrets."""
    try:
        import keyring
        from keyring.backends import fail
    except ImportError:
        return None
    return None if isinstance(keyring.get_keyring(), fail.Keyring) else keyring
