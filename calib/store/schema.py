"""The tables, in terms that SQLite and PostgreSQL both understand.

They are made by the migrations alone; a test holds the two against each other.
"""

from __future__ import annotations

import sqlalchemy as sa

from calib.store.records import RecordKind

REVISION = "0001"
"""The migration that makes these tables."""

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")
"""Text that is ordered by its code points on every server."""
NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""A row's number: only an INTEGER numbers itself in SQLite, and is as long."""

surfaces = sa.Table(
    "surfaces",
    metadata,
    # Ascends in the order of writing, which for one underlying is the order of publication.
    sa.Column("id", NUMBER, primary_key=True),
    sa.Column("underlying", TEXT, nullable=False),
    sa.Column("model", sa.SmallInteger, nullable=False, comment="number of calib.v1.Model"),
    sa.Column("quote_time", sa.DateTime, nullable=False, comment="UTC, microseconds"),
    sa.Column("calibration_time", sa.DateTime, comment="UTC, microseconds"),
    sa.Column("epoch", TEXT, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("input_hash", TEXT, nullable=False),
    sa.Column("code_version", TEXT, nullable=False),
    sa.Column("batch", TEXT, comment="digest of the batch that it was fitted in"),
    sa.Column("place", sa.Integer, comment="its number in the batch"),
    sa.Column("move", sa.JSON(none_as_null=True), comment="what moved it, where it is no fit"),
    sa.Column("message", sa.LargeBinary, nullable=False, comment="calib.v1.Surface, serialised"),
    sa.UniqueConstraint("epoch", "underlying", "model", "revision"),
    sa.Index(None, "underlying", "quote_time", "epoch", "revision"),
    sa.Index(None, "quote_time", "epoch", "revision"),
)

batches = sa.Table(
    "batches",
    metadata,
    sa.Column("id", NUMBER, primary_key=True),
    sa.Column("digest", TEXT, nullable=False),
    sa.Column("quote_time", sa.DateTime, nullable=False, comment="UTC, of its latest chain"),
    sa.Column("document", sa.JSON, nullable=False, comment="settings, members, build"),
    sa.UniqueConstraint("digest"),
    sa.Index(None, "quote_time"),
)


def _records(kind: RecordKind) -> sa.Table:
    return sa.Table(
        kind.value,
        metadata,
        sa.Column("id", NUMBER, primary_key=True),
        sa.Column("underlying", TEXT, nullable=False),
        sa.Column("quote_time", sa.DateTime, nullable=False, comment="UTC, microseconds"),
        sa.Column("expiry", sa.DateTime, comment="UTC, microseconds"),
        sa.Column("model", sa.SmallInteger, comment="number of calib.v1.Model"),
        sa.Column("epoch", TEXT, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("digest", TEXT, nullable=False, comment="hash of all of the record"),
        sa.Column("values", sa.JSON, nullable=False, comment="what is told, by name"),
        sa.UniqueConstraint("digest"),
        sa.Index(None, "underlying", "quote_time", "epoch", "revision"),
        sa.Index(None, "quote_time", "epoch", "revision"),
    )


records = {kind: _records(kind) for kind in RecordKind}
