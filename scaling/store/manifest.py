"""`dataset.json` of an event store: its keys, their types, and the fingerprint of what a model can see.

Every key is checked when the file is read, so code that uses it need not check again. Unknown keys are ignored.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import FiniteFloat, NonNegativeInt

from scaling.documents import read_json
from scaling.errors import UserError
from scaling.store.format import SCHEMA_VERSION, Schema, check_schema
from scaling.strict_values import from_document, key_errors, tolerant

__all__ = ["StoreDocument", "document_breaches", "document_fingerprint", "read_document"]

_DAY = 86_400


@dataclass(frozen=True)
class Counts:
    """Numbers of users, events, impressions and requests."""

    users: NonNegativeInt
    events: NonNegativeInt
    impressions: NonNegativeInt
    requests: NonNegativeInt


@dataclass(frozen=True)
class Split:
    """How the two parts were made; `boundary` (seconds) belongs to a split by time. `given`: the log brought them."""

    kind: Literal["time", "user", "given"]
    n_train: int
    boundary: int | None = None

    def __post_init__(self) -> None:
        """Refuse a split by time without a boundary."""
        if self.kind == "time" and self.boundary is None:
            raise ValueError("a split by time needs a boundary in seconds")


@dataclass(frozen=True)
class Source:
    """The keys of `source` that this package reads; importers and the generator add their own."""

    kind: str = "unknown"
    importer: str | None = None
    options: dict[str, Any] | None = None
    config: dict[str, Any] | None = None


@dataclass(frozen=True)
class StoredArray:
    """What `dataset.json` states about one array; `sha256` covers its bytes without the file's header."""

    dtype: str
    rows: NonNegativeInt
    sha256: str


@tolerant
@dataclass(frozen=True)
class StoreDocument:
    """The whole document, checked; docs/file-formats.md explains each key."""

    schema_version: int
    fingerprint: str
    schema: Schema
    counts: Counts
    split: Split
    utc_offset_seconds: int
    history_quantiles: dict[str, FiniteFloat]
    truth: dict[str, FiniteFloat] | None
    source: Source
    arrays: dict[str, StoredArray]


def read_document(path: Path) -> tuple[dict[str, Any], StoreDocument]:
    """Return `dataset.json` of the store at `path`: as parsed, and as checked values.

    Raises:
        UserError: `path` is not a store, the format has another version, or a key is missing or wrong (the first one).
    """
    file = path / "dataset.json"
    document = _load(file)
    checked = from_document(StoreDocument, document, str(file))
    check_schema(file, checked.schema)
    n_train, n = checked.split.n_train, checked.counts.impressions
    if not 0 < n_train < n:
        raise UserError(
            f"{file}: split.n_train is {n_train}, expected 1 to {n - 1}: "
            f"there are {n} impressions, and neither part may be empty"
        )
    if not -_DAY < checked.utc_offset_seconds < _DAY:
        raise UserError(
            f"{file}: utc_offset_seconds is {checked.utc_offset_seconds}, expected less than a day, {_DAY} seconds"
        )
    for name, length in checked.history_quantiles.items():
        if not 0 <= length <= checked.counts.events:
            raise UserError(
                f"{file}: history_quantiles.{name} is {length}, expected 0 to {checked.counts.events}, the number of events"
            )
    return document, checked


def document_breaches(path: Path) -> list[str]:
    """Return one line for each key of `dataset.json` that is missing or wrong; empty if there is none.

    Raises:
        UserError: `path` is not a store, the file is not JSON, or the format has another version.
    """
    file = path / "dataset.json"
    breaches = [f"{file}: {line}" for line in key_errors(StoreDocument, _load(file))]
    if not breaches:
        try:
            read_document(path)
        except UserError as error:
            breaches.append(str(error))
    return breaches


def _load(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise UserError(
            f"{file.parent}: not a data set (no dataset.json); make one with `scaling data import` or "
            "`scaling data generate`"
        )
    try:
        document = read_json(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{file}: not valid JSON: {error}") from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{file}: schema_version is {version}, this version reads {SCHEMA_VERSION}; make the data set again"
        )
    assert isinstance(document, dict)
    return document


def document_fingerprint(document: Mapping[str, Any]) -> str:
    """Return the sha256 of what a model can see: schema, size of the training part, time zone, digests of the arrays."""
    content = {
        "schema_version": document["schema_version"],
        "schema": document["schema"],
        "n_train": document["split"]["n_train"],
        "utc_offset_seconds": document["utc_offset_seconds"],
        "arrays": document["arrays"],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
