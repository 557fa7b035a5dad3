"""The name of this machine in a library that several machines share.

It is made once and kept: the name of the host for people, and a few random digits because two hosts
can have one name.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from converters.errors import BadValue, WriteFailed

_KEY = "name"


def needs_name(database_url: str | None) -> bool:
    """Whether others can share the database: one in a file belongs to its machine."""
    return database_url is not None and not database_url.startswith("sqlite")


def find_machine(path: Path) -> str:
    """The name that was made before; empty without one. Raises BadValue for a file without it."""
    try:
        name = tomllib.loads(path.read_text("utf-8")).get(_KEY)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise BadValue(f"cannot be read: {error.strerror}", path=path) from error
    except ValueError as error:
        raise BadValue(f"is not TOML: {error}", path=path) from error
    if not isinstance(name, str) or not name:
        raise BadValue(f"has no {_KEY} of the machine", path=path)
    return name


def name_machine(path: Path) -> str:
    """The name of this machine, made now if there is none. Raises BadValue or WriteFailed."""
    known = find_machine(path)
    if known:
        return known
    import secrets

    text = f"{_KEY} = {json.dumps(_new_name())}\n"
    whole = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole.write_text(text, "utf-8")
        try:
            path.hardlink_to(whole)  # unlike a rename, not in the place of another process's name
        except FileExistsError:
            pass
        except (OSError, NotImplementedError):  # a file system or a system without hard links
            whole.replace(path)
        whole.unlink(missing_ok=True)
    except OSError as error:
        raise WriteFailed(f"cannot be written: {error.strerror}", path=path) from error
    return find_machine(path)


def _new_name() -> str:
    import platform
    import secrets

    host = re.sub(r"[^A-Za-z0-9-]+", "-", platform.node().split(".")[0]).strip("-")
    return f"{host or 'machine'}-{secrets.token_hex(4)}"
