"""What is stored as rows of the tables, both ways."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from google.protobuf.message import DecodeError

from calib.conventions import to_instant
from calib.errors import InvalidSurface
from calib.states import ModelName
from calib.store.documents import scalars_from_document, scalars_to_document
from calib.store.entry import Entry
from calib.store.provenance import Batch, Fitted, Moved
from calib.store.records import Record, RecordKind
from calib.v1 import surface_pb2


def moment(value: Any) -> datetime:
    """An instant as columns hold it: UTC without saying so."""
    naive: datetime = to_instant(value).astype(datetime)
    return naive


def surface_row(entry: Entry) -> dict[str, Any]:
    """The row of an entry's surface, which it must have."""
    message, source = entry.surface, entry.provenance
    assert message is not None
    calibrated = message.HasField("calibration_time")
    return {
        "underlying": message.underlying,
        "model": int(message.model),
        "quote_time": message.quote_time.ToDatetime(),
        "calibration_time": message.calibration_time.ToDatetime() if calibrated else None,
        "epoch": message.epoch,
        "revision": message.revision,
        "input_hash": message.input_hash,
        "code_version": message.code_version,
        "batch": source.batch.digest if isinstance(source, Fitted) else None,
        "place": source.place if isinstance(source, Fitted) else None,
        "move": source.to_document() if isinstance(source, Moved) else None,
        "message": message.SerializeToString(deterministic=True),
    }


def message_of(row: int, stored: bytes) -> surface_pb2.Surface:
    """The message in row number ``row``; raises InvalidSurface where it is damaged."""
    try:
        return surface_pb2.Surface.FromString(stored)
    except DecodeError as error:
        raise InvalidSurface(f"the stored surface with id {row} is damaged: {error}") from error


def batch_row(batch: Batch) -> dict[str, Any]:
    """The row of a batch."""
    return {
        "digest": batch.digest,
        "quote_time": moment(batch.quote_time),
        "document": batch.to_document(),
    }


def record_row(record: Record) -> dict[str, Any]:
    """The row of a record."""
    return {
        "underlying": record.underlying,
        "quote_time": moment(record.quote_time),
        "expiry": None if record.expiry is None else moment(record.expiry),
        "model": None if record.model is None else int(record.model),
        "epoch": record.epoch,
        "revision": record.revision,
        "digest": record.digest,
        "values": scalars_to_document(record.values),
    }


def record_of(kind: RecordKind, row: sa.RowMapping) -> Record:
    """The record in a row."""
    return Record(
        kind=kind,
        underlying=row["underlying"],
        quote_time=np.datetime64(row["quote_time"], "us"),
        expiry=None if row["expiry"] is None else np.datetime64(row["expiry"], "us"),
        model=None if row["model"] is None else ModelName(row["model"]),
        epoch=row["epoch"],
        revision=row["revision"],
        values=scalars_from_document(row["values"]),
    )
