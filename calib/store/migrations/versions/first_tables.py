"""Surfaces and the batches that they were fitted in; metrics, alarms, transitions, actions."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """From an empty database."""
    op.create_table(
        "surfaces",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("underlying", _TEXT, nullable=False),
        sa.Column("model", sa.SmallInteger, nullable=False, comment="number of calib.v1.Model"),
        sa.Column("quote_time", sa.DateTime, nullable=False, comment="UTC, microseconds"),
        sa.Column("calibration_time", sa.DateTime, comment="UTC, microseconds"),
        sa.Column("epoch", _TEXT, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("input_hash", _TEXT, nullable=False),
        sa.Column("code_version", _TEXT, nullable=False),
        sa.Column("batch", _TEXT, comment="digest of the batch that it was fitted in"),
        sa.Column("place", sa.Integer, comment="its number in the batch"),
        sa.Column("move", sa.JSON, comment="what moved it, where it is no fit"),
        sa.Column(
            "message", sa.LargeBinary, nullable=False, comment="calib.v1.Surface, serialised"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_surfaces"),
        sa.UniqueConstraint(
            "epoch",
            "underlying",
            "model",
            "revision",
            name="uq_surfaces_epoch_underlying_model_revision",
        ),
    )
    _index("surfaces", "underlying", "quote_time", "epoch", "revision")
    _index("surfaces", "quote_time", "epoch", "revision")
    op.create_table(
        "batches",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("digest", _TEXT, nullable=False),
        sa.Column("quote_time", sa.DateTime, nullable=False, comment="UTC, of its latest chain"),
        sa.Column("document", sa.JSON, nullable=False, comment="settings, members, build"),
        sa.PrimaryKeyConstraint("id", name="pk_batches"),
        sa.UniqueConstraint("digest", name="uq_batches_digest"),
    )
    _index("batches", "quote_time")
    for name in ("metrics", "alarms", "breaker_transitions", "operator_actions"):
        op.create_table(
            name,
            sa.Column("id", _NUMBER, nullable=False),
            sa.Column("underlying", _TEXT, nullable=False),
            sa.Column("quote_time", sa.DateTime, nullable=False, comment="UTC, microseconds"),
            sa.Column("expiry", sa.DateTime, comment="UTC, microseconds"),
            sa.Column("model", sa.SmallInteger, comment="number of calib.v1.Model"),
            sa.Column("epoch", _TEXT, nullable=False),
            sa.Column("revision", sa.BigInteger, nullable=False),
            sa.Column("digest", _TEXT, nullable=False, comment="hash of all of the record"),
            sa.Column("values", sa.JSON, nullable=False, comment="what is told, by name"),
            sa.PrimaryKeyConstraint("id", name=f"pk_{name}"),
            sa.UniqueConstraint("digest", name=f"uq_{name}_digest"),
        )
        _index(name, "underlying", "quote_time", "epoch", "revision")
        _index(name, "quote_time", "epoch", "revision")


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))
