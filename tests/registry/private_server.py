"""A PostgreSQL server for the tests alone: in a temporary folder, reached by a socket in it.

The language of its texts is not C, so that what depends on that is seen. Nothing is made durable.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest
from helpers.waiting import PATIENCE, wait_until

from registry.library import Library

_USER = "library"
_QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=16MB")
_EMPTY = """DO $$ DECLARE numbers text; BEGIN
    DELETE FROM asset; DELETE FROM root; DELETE FROM mount; DELETE FROM facet; DELETE FROM alike;
    DELETE FROM named_by;
    FOR numbers IN SELECT sequencename FROM pg_sequences LOOP
        PERFORM setval(numbers::regclass, 1, false);
    END LOOP;
END $$"""
_ACCESS = "local all guarded scram-sha-256\nlocal all all trust\n"


class Server:
    """A running server; `new` makes databases in which a library was made already."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = count()
        self._made: set[str] = set()

    def url(self, database: str, user: str = _USER, password: str = "") -> str:
        login = f"{user}:{password}" if password else user
        return f"postgresql+psycopg://{login}@/{database}?host={self.folder}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        place = {"host": str(self.folder), "user": _USER, "dbname": database}
        with psycopg.connect(autocommit=True, **place) as connection:
            found = connection.execute(statement)  # type: ignore[arg-type]
            return found.fetchall() if found.description else []

    def empty(self) -> str:
        """The URL of a database in which there is nothing."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def make_template(self) -> None:
        self.execute("CREATE DATABASE new_library")
        Library.open(self.url("new_library")).close()

    def emptied(self) -> str:
        """As `new`, but always the same one, for tests that leave its tables as they are."""
        if "emptied" not in self._made:
            self._made.add("emptied")
            self.execute("CREATE DATABASE emptied TEMPLATE new_library")
        self.execute(_EMPTY, "emptied")
        return self.url("emptied")

    def new(self) -> str:
        """The URL of a library in which nothing was recorded yet."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE new_library STRATEGY FILE_COPY")
        return self.url(name)


@contextmanager
def running() -> Iterator[Server]:
    """A server until the block is left; skips the test where PostgreSQL is not installed."""
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    as_user = _as_user(folder)
    data = folder / "data"
    try:
        language = ["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"]
        command = [str(programs / "initdb"), "-D", str(data), "-U", _USER, "--auth=trust"]
        _run([*as_user, *command, "--no-sync", "--encoding=UTF8", *language])
        (data / "pg_hba.conf").write_text(_ACCESS)
        options = [f"unix_socket_directories={folder}", "listen_addresses=", *_QUICK]
        command = [str(programs / "postgres"), "-D", str(data)]
        command += [word for option in options for word in ("-c", option)]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen([*as_user, *command], stdout=log, stderr=log, cwd=folder)
        try:
            server = Server(folder)
            _wait(server, process)
            server.make_template()
            yield server
        finally:
            process.send_signal(signal.SIGQUIT)  # at once: nobody needs the data any more
            process.wait(PATIENCE)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    """The newest version in the place of Debian's packages, or that of the path."""
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    versions = {int(re.sub(r"\D", "", path.parts[-3]) or 0): path.parent for path in found}
    if versions:
        return versions[max(versions)]
    on_path = shutil.which("initdb")
    if on_path is None:
        pytest.skip("PostgreSQL is not installed")
    return Path(on_path).parent


def _as_user(folder: Path) -> list[str]:
    """The server refuses to run as root: then it is the user of the package who does."""
    if os.geteuid() != 0:
        return []
    try:
        shutil.chown(folder, "postgres", "postgres")
    except LookupError:
        folder.rmdir()
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    def answers() -> bool:
        try:
            server.execute("SELECT 1")
        except psycopg.OperationalError:
            assert process.poll() is None, (server.folder / "log").read_text()
            return False
        return True

    wait_until(answers)
