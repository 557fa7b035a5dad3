"""The steps from one revision of the tables to the next, as Alembic scripts.

Imported only when a library is new or older than the program: Alembic costs more time than most
commands take.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from registry.errors import LibraryUnusable


def configuration() -> Config:
    """Alembic's configuration; there is no file of it."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def newest() -> str | None:
    """The revision that the scripts lead to."""
    return ScriptDirectory.from_config(configuration()).get_current_head()


def knows(revision: str) -> bool:
    """Whether tables of a revision can be brought to the newest; else a newer program made them."""
    scripts = ScriptDirectory.from_config(configuration()).walk_revisions()
    return revision in {script.revision for script in scripts}


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring the tables to a revision, the newest, within the connection's transaction.

    Raises LibraryUnusable when the stored revision is none of ours.
    """
    config = configuration()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise LibraryUnusable(
            "was made by a newer version of the program", hint="update assetmgr"
        ) from error
