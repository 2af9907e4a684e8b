"""How long the histories of a log are and how many impressions share one: what the cost of a pass depends on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from scaling.store.event_store import EventStore
from scaling.store.writer import QUANTILES

__all__ = ["LogShape", "log_shape"]


# shares at which a mean over quantiles is taken
_SHARES = tuple((k + 0.5) / 64 for k in range(64))
_LONGEST = 1 << 40  # events; no history is longer


@dataclass(frozen=True)
class LogShape:
    """Sizes of a log; the defaults, for a log of which nothing is known, are full histories and single impressions.

    Attributes:
        history_quantiles: quantiles of the history lengths in events, by the names of `dataset.json`; empty: all
            histories are long.
        per_request: mean number of impressions of a request.
        requests_per_user: mean number of requests of a user.
        events_per_user: mean number of events of a user.
    """

    history_quantiles: Mapping[str, float] = field(default_factory=dict)
    per_request: float = 1.0
    requests_per_user: float = 1.0
    events_per_user: float = 0.0

    def history_at(self, share: float) -> float:
        """Return the length that this share of the histories does not exceed; infinite if nothing is known."""
        at, lengths = self._quantiles
        return float(np.interp(share, at, lengths)) if at else math.inf

    def mean_history(self, max_len: int) -> float:
        """Return the mean number of events that a pass reads, of the latest `max_len`."""
        at, lengths = self._quantiles
        if not at:
            return float(max_len)
        return float(np.minimum(np.interp(_SHARES, at, lengths), max_len).mean())

    def impressions_per_stretch(self, max_len: int) -> float:
        """Return the mean number of impressions that share a window of `max_len` events, half of which are new.

        The histories of a user are taken to grow steadily up to the user's last event.
        """
        growth = 2 * max(0.0, self.events_per_user - self.mean_history(_LONGEST))
        n_windows = 1 + growth / max(1, max_len // 2)
        return self.per_request * max(1.0, self.requests_per_user / n_windows)

    @cached_property
    def _quantiles(self) -> tuple[list[float], list[float]]:
        known = {QUANTILES[n]: v for n, v in self.history_quantiles.items() if n in QUANTILES}
        return sorted(known), [known[share] for share in sorted(known)]


def log_shape(store: EventStore) -> LogShape:
    """Return the sizes of an opened store."""
    n_users = max(1, store.n_users)
    return LogShape(
        history_quantiles=store.history_quantiles,
        per_request=store.n_train / (int(store.request[store.n_train - 1]) + 1),
        requests_per_user=max(1.0, (int(store.request[-1]) + 1) / n_users),
        events_per_user=store.n_events / n_users,
    )
