"""The record of what was published: every surface, in an embedded SQLite file or another database.

`open_store` reads and writes it; `StoreWriter` writes from a thread, and publishing never waits.
"""

from calib.store.store import Cursor as Cursor
from calib.store.store import Store as Store
from calib.store.store import open_store as open_store
from calib.store.writer import StoreWriter as StoreWriter
