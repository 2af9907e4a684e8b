"""One event store on disk: its format, and how a store is opened, written and validated.

Not here: whether the data in a valid store are good (`scaling.audit`), and how logs are made or imported
(`scaling.synthetic`, `scaling.importers`).
"""

from scaling.store.event_store import CHUNK, EventStore, chunks
from scaling.store.format import PADDING, UNKNOWN, Feature, Schema, array_table, check_schema
from scaling.store.from_arrays import write_store
from scaling.store.log_sizes import LogShape, log_shape
from scaling.store.opening import open_store
from scaling.store.rows import Events, Impressions, one_class
from scaling.store.validate import validate_store
from scaling.store.validation_rules import find_index_breaches, sees_only_the_past
from scaling.store.writer import HistoryLengths, StoreDescription, StoreWriter

__all__ = [
    "CHUNK",
    "PADDING",
    "UNKNOWN",
    "EventStore",
    "Events",
    "Feature",
    "HistoryLengths",
    "Impressions",
    "LogShape",
    "Schema",
    "StoreDescription",
    "StoreWriter",
    "array_table",
    "check_schema",
    "chunks",
    "find_index_breaches",
    "log_shape",
    "one_class",
    "open_store",
    "sees_only_the_past",
    "validate_store",
    "write_store",
]
