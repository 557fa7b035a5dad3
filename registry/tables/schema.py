"""The tables of the library. Content (`asset`) is apart from the places it lies at (`file`).

What users add (tags, notes, previews, lineage) hangs on the asset and so survives moves, renames
and duplicates. `registry/migrations` builds these very tables; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from registry.tables.place_text import PlaceText

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

_ASSET = "asset.id"
_SQLITE, _POSTGRESQL = "sqlite", "postgresql"

_LISTED = (
    *("state", "copies", "safety", "verdict", "rating", "bytes", "variant", "container", "layout"),
    *("algorithm", "added", "updated"),
)
_FILTERS = ("kind", "base", *_LISTED)
BY_ID, BY_NAME = "ix_asset_by_id", "ix_asset_by_name"
FILE_BY_ID = "ix_file_by_id"
BY_SIZE, BY_ADDED, BY_UPDATED = "ix_asset_by_size", "ix_asset_by_added", "ix_asset_by_updated"


def _in_order(name: str, column: str) -> Index:
    """An index in the order of a column, with all that lists are filtered by."""
    rest = (other for other in _FILTERS if other != column)
    return Index(name, column, "name_folded", "id", *rest).ddl_if(_SQLITE)


asset = Table(
    "asset",
    metadata,
    Column("id", Integer, primary_key=True),
    # Of content that was seen and not read yet there are no hashes.
    Column("blake3", String(64), unique=True),
    Column("sha256", String(64), index=True),
    Column("crc32", String(8), index=True),
    Column("autov1", String(8), index=True),
    Column("autov3", String(64), index=True),
    Column("weights", String(64), index=True),
    Column("name", Text, nullable=False, index=True),
    Column("name_folded", Text, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("base", String(32), nullable=False),
    Column("variant", String(32)),
    Column("prediction", String(16), nullable=False),
    Column("layout", String(32)),
    Column("container", String(32)),
    Column("bytes", BigInteger, nullable=False),
    Column("rank", Integer),
    Column("tensors", Integer, nullable=False),
    Column("parameters", BigInteger, nullable=False),
    Column("confidence", Float, nullable=False),
    Column("safety", String(16), nullable=False),
    Column("rating", Integer),
    Column("added", DateTime, nullable=False),
    Column("updated", DateTime, nullable=False),
    Column("algorithm", JSON, nullable=False),
    Column("dtypes", JSON, nullable=False),
    Column("components", JSON, nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("problems", JSON, nullable=False),
    Column("safety_imports", JSON, nullable=False),
    Column("safety_findings", JSON, nullable=False),
    Column("trigger_words", JSON, nullable=False),
    Column("note", Text),
    # Kept by triggers: the verdict of its preview, the best state of its files, and how many of
    # them are there, on that machine which has most of them.
    Column("verdict", String(8)),
    Column("state", String(8), nullable=False, server_default="missing"),
    Column("copies", Integer, nullable=False, server_default="0"),
    # SQLite filters, sorts and counts lists within an index, without the long rows of the table.
    Index(BY_NAME, "name_folded", "id", *_FILTERS).ddl_if(_SQLITE),
    Index(BY_ID, "id", *_FILTERS, "name_folded").ddl_if(_SQLITE),
    _in_order(BY_SIZE, "bytes"),
    _in_order(BY_ADDED, "added"),
    _in_order(BY_UPDATED, "updated"),
    Index("ix_asset_by_kind", "kind", "base", "name_folded", *_LISTED).ddl_if(_SQLITE),
    Index(None, "name_folded").ddl_if(_POSTGRESQL),
    Index(None, "kind", "base").ddl_if(_POSTGRESQL),
    Index(None, "bytes").ddl_if(_POSTGRESQL),
    Index(None, "added").ddl_if(_POSTGRESQL),
)

# Long texts have tables of their own: lists are sorted and filtered from the short rows of `asset`,
# and looking for a word reads only what words are looked for in.
asset_metadata = Table(
    "asset_metadata",
    metadata,
    Column("asset_id", ForeignKey(_ASSET, ondelete="CASCADE"), primary_key=True),
    Column("metadata", JSON, nullable=False),
)

# In SQLite `asset_words` is the full-text index of this, in PostgreSQL there is one of trigrams.
asset_search = Table(
    "asset_search",
    metadata,
    Column("asset_id", ForeignKey(_ASSET, ondelete="CASCADE"), primary_key=True),
    Column("text", Text, nullable=False),
)

# The weights digest of each component, and those of all tensors in one packed value.
component = Table(
    "component",
    metadata,
    Column("asset_id", ForeignKey(_ASSET, ondelete="CASCADE"), primary_key=True),
    Column("name", String(32), primary_key=True),
    Column("digest", String(64), nullable=False, index=True),
)

asset_tensors = Table(
    "asset_tensors",
    metadata,
    Column("asset_id", ForeignKey(_ASSET, ondelete="CASCADE"), primary_key=True),
    Column("packed", LargeBinary, nullable=False),
)

# The tensors of each component under the names that its digest was made of: a pipeline and a single
# file have other names, and some other matrices, alone.
component_tensors = Table(
    "component_tensors",
    metadata,
    Column("asset_id", ForeignKey(_ASSET, ondelete="CASCADE"), primary_key=True),
    Column("name", String(32), primary_key=True),
    Column("packed", LargeBinary, nullable=False),
)

# Hashes that somebody else names for a file. Whether it `agrees` with the file's own is not known
# before that was hashed.
candidate = Table(
    "candidate",
    metadata,
    Column("asset_id", ForeignKey(_ASSET, ondelete="CASCADE"), primary_key=True),
    Column("hash", String(8), primary_key=True),
    Column("digest", String(64), primary_key=True, index=True),
    Column("origin", Text, primary_key=True),
    Column("agrees", Boolean, index=True),
)

# A database that several machines share has the places of each; `machine` is empty in SQLite.
file = Table(
    "file",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("machine", Text, nullable=False, server_default=""),
    Column("path", PlaceText, nullable=False),
    Column("path_folded", Text, nullable=False),
    Column("asset_id", ForeignKey(_ASSET, ondelete="CASCADE"), nullable=False, index=True),
    Column("bytes", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    # Windows numbers files with 128 bits on ReFS. SQLite does not look at lengths.
    Column("inode", String(20).with_variant(String(40), _POSTGRESQL), nullable=False),
    Column("state", String(8), nullable=False),
    UniqueConstraint("machine", "path"),
    Index(FILE_BY_ID, "id", "asset_id").ddl_if(_SQLITE),
)

root = Table(
    "root",
    metadata,
    Column("machine", Text, primary_key=True, server_default=""),
    Column("path", PlaceText, primary_key=True),
)

# Where disks were mounted that known files lie on: while nothing is, those are offline.
mount = Table(
    "mount",
    metadata,
    Column("machine", Text, primary_key=True, server_default=""),
    Column("path", PlaceText, primary_key=True),
)

# Assets that came with their hashes: the next scan reads them, for the digests of their tensors.
undigested = Table(
    "undigested",
    metadata,
    Column("asset_id", ForeignKey(_ASSET, ondelete="CASCADE"), primary_key=True),
)

# By which rules of `registry.scanning.naming` the assets were named: one row.
named_by = Table(
    "named_by",
    metadata,
    Column("rules", Integer, primary_key=True, autoincrement=False),
)

# Assets that newer rules may name otherwise: the next scan looks into their headers.
unnamed = Table(
    "unnamed",
    metadata,
    Column("asset_id", ForeignKey(_ASSET, ondelete="CASCADE"), primary_key=True),
)

tag = Table(
    "tag",
    metadata,
    Column("asset_id", ForeignKey(_ASSET, ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Index(None, "name", "asset_id"),
)

# How many assets there are of each tag: kept by triggers on `tag`.
facet = Table(
    "facet",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("value", Text, primary_key=True),
    Column("number", Integer, nullable=False),
)

# How many assets are alike in all that lists are filtered by: kept by triggers on `asset`. What is
# unknown of them is an empty text here, a rating -1; more than two copies count as two.
alike = Table(
    "alike",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("base", Text, nullable=False),
    Column("variant", Text, nullable=False),
    Column("container", Text, nullable=False),
    Column("layout", Text, nullable=False),
    Column("algorithm", Text, nullable=False),
    Column("safety", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("rating", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("copies", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    UniqueConstraint(
        *("kind", "base", "variant", "container", "layout", "algorithm", "safety", "verdict"),
        *("rating", "state", "copies"),
        name="uq_alike_key",
    ),
)

# What searches need of an asset, in a few bytes: what words find is counted and sorted by these
# rows, of which many lie on one page, unlike those of any index of `asset`. `tags` are the asset's
# tags with `registry.text.BETWEEN` between them. All of it is kept by triggers.
brief = Table(
    "brief",
    metadata,
    Column("asset_id", ForeignKey(_ASSET, ondelete="CASCADE"), primary_key=True),
    Column("alike_id", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("tags", Text, nullable=False),
    Index(None, "alike_id", "bytes"),
)

source = Table(
    "source",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("asset_id", ForeignKey(_ASSET, ondelete="CASCADE"), nullable=False, index=True),
    Column("source", Text, nullable=False),
    Column("repo", Text),
    Column("revision", Text),
    Column("file", Text),
    Column("url", Text),
    Column("licence", Text),
)

# A parent that the library has never seen is known by its hash and name alone; `parent_id` is
# filled in when a file with that hash is recorded.
derivation = Table(
    "derivation",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("child_id", ForeignKey(_ASSET, ondelete="CASCADE"), nullable=False, index=True),
    Column("parent_id", ForeignKey(_ASSET, ondelete="SET NULL"), index=True),
    Column("parent_sha256", String(64), index=True),
    Column("parent_name", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("version", Text),
)

preview = Table(
    "preview",
    metadata,
    Column("asset_id", ForeignKey(_ASSET, ondelete="CASCADE"), primary_key=True),
    Column("verdict", String(8), nullable=False),
    Column("path", Text),
    Column("thumbnail", Text),
    Column("seed", BigInteger, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("checks", JSON, nullable=False),
    Column("parameters", JSON, nullable=False),
)

verification = Table(
    "verification",
    metadata,
    Column("asset_id", ForeignKey(_ASSET, ondelete="CASCADE"), primary_key=True),
    Column("integrity", String(8)),
    Column("structure", String(8)),
    Column("checked", DateTime, nullable=False),
)

# One file can be beside several models; what it says hangs on each of them.
sidecar = Table(
    "sidecar",
    metadata,
    Column("asset_id", ForeignKey(_ASSET, ondelete="CASCADE"), primary_key=True),
    Column("machine", Text, primary_key=True, server_default=""),
    Column("path", PlaceText, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("told", JSON),
)
