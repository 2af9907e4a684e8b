"""What a store holds, in numbers for people and programs; reads `dataset.json`, the labels and four times."""

from datetime import UTC, datetime
from typing import Any

from scaling.errors import UserError
from scaling.store import EventStore

__all__ = ["summarize_store"]


def summarize_store(store: EventStore) -> dict[str, Any]:
    """Return counts, rates, vocabularies, split, span and fingerprint as plain JSON types.

    `span` holds the first and last second of the training and of the test part, ISO 8601 in UTC;
    `history_quantiles` are of the events before an impression; `truth` is None unless the log was generated.
    """
    n = store.n_train
    bytes_on_disk = sum(file.stat().st_size for file in store.path.rglob("*") if file.is_file())
    return {
        "path": str(store.path),
        "fingerprint": store.fingerprint,
        "source": store.source,
        "counts": {
            "users": store.n_users,
            "events": store.n_events,
            "impressions": store.n_impressions,
            "requests": int(store.request[-1]) + 1,
            "train": store.n_train,
            "test": store.n_test,
        },
        "split": store.split,
        "base_rate": store.base_rate,
        "truth": store.truth,
        "history_quantiles": store.history_quantiles,
        "span": {
            "train": [_iso(store, 0), _iso(store, n - 1)],
            "test": [_iso(store, n), _iso(store, store.n_impressions - 1)],
        },
        "utc_offset_seconds": store.utc_offset_seconds,
        "schema": store.schema.to_json(),
        "bytes": bytes_on_disk,
        "bytes_per_impression": bytes_on_disk / store.n_impressions,
    }


def _iso(store: EventStore, row: int) -> str:
    seconds = int(store.time[row])
    try:
        return datetime.fromtimestamp(seconds, tz=UTC).isoformat()
    except (ValueError, OverflowError, OSError) as error:
        raise UserError(
            f"{store.path / 'impressions/time.npy'}: row {row:,} is {seconds}, expected unix seconds"
        ) from error
