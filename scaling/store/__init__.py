"""One event store on disk: its format, and how a store is opened, written and validated.

Not here: whether the data in a valid store are good (`scaling.audit`), and how logs are made or imported
(`scaling.synthetic`, `scaling.importers`).
"""

from scaling.store.event_store import CHUNK, EventStore, chunks
from scaling.store.format import (
    FEATURE_PATHS,
    OFFSETS,
    PADDING,
    UNKNOWN,
    WEIGHTS,
    ArraySpec,
    Feature,
    Schema,
    array_table,
    check_schema,
    feature_arrays,
)
from scaling.store.from_arrays import write_store
from scaling.store.log_sizes import LogShape, log_shape
from scaling.store.opening import open_store, open_unchanged
from scaling.store.rows import Events, Impressions, one_class
from scaling.store.validate import validate_store
from scaling.store.validation_rules import find_index_breaches, sees_only_the_past
from scaling.store.value_lists import ValueLists
from scaling.store.writer import (
    HistoryLengths,
    StoreDescription,
    StoreWriter,
    write_document,
    write_header,
)

__all__ = [
    "CHUNK",
    "FEATURE_PATHS",
    "OFFSETS",
    "PADDING",
    "UNKNOWN",
    "WEIGHTS",
    "ArraySpec",
    "EventStore",
    "Events",
    "Feature",
    "HistoryLengths",
    "Impressions",
    "LogShape",
    "Schema",
    "StoreDescription",
    "StoreWriter",
    "ValueLists",
    "array_table",
    "check_schema",
    "chunks",
    "feature_arrays",
    "find_index_breaches",
    "log_shape",
    "one_class",
    "open_store",
    "open_unchanged",
    "sees_only_the_past",
    "validate_store",
    "write_document",
    "write_header",
    "write_store",
]
