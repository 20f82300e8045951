"""The tables, in terms that every SQL database understands."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

surfaces = sa.Table(
    "surfaces",
    metadata,
    # Ascends in the order of writing, which for one underlying is the order of publication.
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("underlying", sa.String, nullable=False),
    sa.Column("model", sa.SmallInteger, nullable=False, comment="number of calib.v1.Model"),
    sa.Column("quote_time", sa.DateTime, nullable=False, comment="UTC, microseconds"),
    sa.Column("calibration_time", sa.DateTime, comment="UTC, microseconds"),
    sa.Column("epoch", sa.String, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("input_hash", sa.String, nullable=False),
    sa.Column("code_version", sa.String, nullable=False),
    sa.Column("message", sa.LargeBinary, nullable=False, comment="calib.v1.Surface, serialised"),
    sa.UniqueConstraint("epoch", "underlying", "model", "revision"),
    sa.Index(None, "underlying", "quote_time", "epoch", "revision"),
    sa.Index(None, "quote_time", "epoch", "revision"),
)
