"""Passes that share a history: the impressions of one request, or of a stretch of one user's log.

A stretch is a window of L events. The next one starts L / 2 later, so that an impression reads the latest
L / 2 to L events (all of them if there are at most L). Memory grows with the number of groups.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.ctr_model import Batch
from scaling.batches.fixed_shapes import ANY_SHAPE, Shapes, padded
from scaling.batches.gather import gather_packed
from scaling.batches.permutation import permuted_rows
from scaling.batches.share import WHOLE, Share
from scaling.store import EventStore
from scaling.study import TOKENS_PER_PART

__all__ = [
    "Groups",
    "group_requests",
    "group_stretches",
    "groups_of_latest",
    "iterate_packed",
    "packed_rows",
    "packed_samples_seen",
]


@dataclass(frozen=True)
class Groups:
    """The impressions of the training part, in groups that share a pass.

    Attributes:
        rows: impressions [n_train]; each group is contiguous and in time order.
        first: index in `rows` at which each group begins [G + 1].
        starts: the first event of each group's window [G].
        stretches: whether a group holds several requests.
    """

    rows: NDArray[np.int64]
    first: NDArray[np.int64]
    starts: NDArray[np.int64]
    stretches: bool

    @property
    def counts(self) -> NDArray[np.int64]:
        """Impressions per group [G]."""
        return np.diff(self.first)


def group_requests(store: EventStore, max_len: int) -> Groups:
    """Group the training impressions by request; each reads the latest `max_len` events before it."""
    first = _boundaries(np.asarray(store.request[: store.n_train]))
    leaders = first[:-1]
    ends = store.history_end[leaders]
    starts = np.maximum(store.offsets[store.user[leaders]], ends - max_len)
    return Groups(np.arange(store.n_train), first, starts, stretches=False)


def group_stretches(store: EventStore, max_len: int) -> Groups:
    """Group the training impressions by user and window of `max_len` events."""
    users, ends = store.user[: store.n_train], store.history_end[: store.n_train]
    rows = np.lexsort([ends, users]).astype(np.int64)
    users, ends = users[rows], ends[rows]
    stride = max(1, max_len // 2)
    late = ends - store.offsets[users] - max_len  # events beyond the first window
    window = np.maximum(0, -(-late // stride))
    first = _boundaries(users * (window.max(initial=0) + 1) + window)
    leaders = first[:-1]
    starts = store.offsets[users[leaders]] + window[leaders] * stride
    return Groups(rows, first, starts, stretches=True)


def groups_of_latest(groups: Groups, n_samples: int) -> Groups:
    """Return the groups of the latest `n_samples` training impressions, in the order of their last impressions.

    A group that reaches back beyond them loses its earlier impressions; its window of events stays the same.
    """
    kept = groups.rows >= len(groups.rows) - n_samples  # row numbers are in time order
    group = np.repeat(np.arange(len(groups.starts)), groups.counts)[kept]
    rows, ends = groups.rows[kept], _boundaries(group)
    by_time = np.argsort(rows[ends[1:] - 1])
    counts = np.diff(ends)[by_time]
    first = np.concatenate([[0], counts.cumsum()])
    places = np.repeat(ends[:-1][by_time] - first[:-1], counts) + np.arange(len(rows))
    return replace(
        groups, rows=rows[places], first=first, starts=groups.starts[group[ends[:-1]]][by_time]
    )


def iterate_packed(
    store: EventStore,
    groups: Groups,
    step_ends: NDArray[np.int64],
    order: int | None,
    first_step: int = 0,
    tokens_per_part: int = TOKENS_PER_PART,
    share: Share = WHOLE,
    shapes: Shapes = ANY_SHAPE,
) -> Iterator[list[Batch]]:
    """Yield the steps of one epoch, whole groups in the order of `order`; without one, as they are.

    A step contains the groups whose last impression falls into its share of the epoch, which ends at its entry of
    `step_ends`. The last group is cut so that the epoch has exactly `step_ends[-1]` impressions. Smaller sizes are
    prefixes of larger ones. Of each step only the groups of `share` are read, which may be none. Parts are padded to
    the `shapes`, and have at most `tokens_per_part` tokens with this padding, unless one group has more.
    """
    sequence, counts, bounds = _schedule(groups, step_ends, order)
    for begin, end in pairwise(bounds[first_step:]):
        chosen, taken = sequence[begin:end], counts[begin:end]
        parts = _parts(store, groups, chosen, taken, tokens_per_part, share, shapes)
        yield [padded(part, shapes) for part in parts]


def packed_samples_seen(
    groups: Groups, step_ends: NDArray[np.int64], order: int | None
) -> NDArray[np.int64]:
    """Return the impressions seen after each step of `iterate_packed`.

    There are fewer steps than `step_ends` if groups are larger than a batch.
    """
    _, counts, bounds = _schedule(groups, step_ends, order)
    seen: NDArray[np.int64] = counts.cumsum()[bounds[1:] - 1]
    return seen


def packed_rows(groups: Groups, n_samples: int, order: int | None) -> NDArray[np.int64]:
    """Return the impressions of an epoch of `iterate_packed` [n_samples], in its order."""
    sequence, counts, _ = _schedule(groups, np.array([n_samples]), order)
    before = np.repeat(counts.cumsum() - counts, counts)
    places = np.repeat(groups.first[sequence], counts) + np.arange(n_samples) - before
    rows: NDArray[np.int64] = groups.rows[places]
    return rows


def _schedule(
    groups: Groups, step_ends: NDArray[np.int64], order: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the groups in order, the number of impressions used from each, and the bounds of each step."""
    n_groups, n_samples = len(groups.starts), int(step_ends[-1])
    sequence = np.arange(n_groups)
    if order is not None:
        sequence = permuted_rows(sequence, n_groups, order)
    done = groups.counts[sequence].cumsum()
    n_whole = int(np.searchsorted(done, n_samples)) + 1
    sequence, done = sequence[:n_whole], np.minimum(done[:n_whole], n_samples)
    counts = np.diff(done, prepend=0)
    steps = np.searchsorted(done, step_ends, "left")
    # a group larger than a batch spans several shares of the epoch and makes one step
    bounds = np.unique(np.concatenate([[0], np.minimum(steps + 1, n_whole)]))
    return sequence, counts, bounds


def _parts(
    store: EventStore,
    groups: Groups,
    chosen: NDArray[np.int64],
    counts: NDArray[np.int64],
    tokens_per_part: int,
    share: Share,
    shapes: Shapes,
) -> Iterator[Batch]:
    """Gather a share of the chosen groups in parts of similar size and limited numbers of tokens."""
    last = groups.rows[groups.first[chosen] + counts - 1]
    lengths = store.history_end[last] - groups.starts[chosen]
    by_length = share.of(np.lexsort([lengths, counts])[::-1])
    begin = 0
    while begin < len(by_length):
        end, width, height = begin, 0, 0
        while end < len(by_length):
            wider = max(width, int(lengths[by_length[end]]))
            taller = max(height, int(counts[by_length[end]]))
            n_tokens = shapes.width(wider) + shapes.candidates(taller)
            if end > begin and shapes.passes(end + 1 - begin) * n_tokens > tokens_per_part:
                break
            end, width, height = end + 1, wider, taller
        part = by_length[begin:end]
        columns = np.arange(height)
        rows = np.full((len(part), height), -1, np.int64)
        taken = columns < counts[part][:, None]
        places = groups.first[chosen[part]][:, None] + columns
        rows[taken] = groups.rows[places[taken]]
        yield gather_packed(store, rows, groups.starts[chosen[part]], stretches=groups.stretches)
        begin = end


def _boundaries(labels: NDArray[Any]) -> NDArray[np.int64]:
    """The start of each run of equal labels, and the end of the last."""
    changes = np.flatnonzero(np.diff(labels)) + 1
    return np.concatenate([[0], changes, [len(labels)]]).astype(np.int64)
