"""The record of what was published, from what, and what was found and done about it.

`open_store` reads and writes it, in SQLite or PostgreSQL, with the input quotes as Parquet;
`StoreWriter` writes from a thread, and publishing never waits.
"""

from calib.store.build import Build as Build
from calib.store.build import this_build as this_build
from calib.store.database import shown_url as shown_url
from calib.store.entry import Entry as Entry
from calib.store.provenance import Batch as Batch
from calib.store.provenance import Fitted as Fitted
from calib.store.provenance import Member as Member
from calib.store.provenance import Moved as Moved
from calib.store.provenance import Provenance as Provenance
from calib.store.provenance import SurfaceKey as SurfaceKey
from calib.store.published import StoredSurface as StoredSurface
from calib.store.queries import Cursor as Cursor
from calib.store.records import Record as Record
from calib.store.records import RecordKind as RecordKind
from calib.store.retention import Retention as Retention
from calib.store.store import Store as Store
from calib.store.store import open_store as open_store
from calib.store.writer import StoreWriter as StoreWriter
from calib.store.writer import WriterState as WriterState
