"""The steps of a run's one epoch: how many, how many impressions each has seen, and the batches themselves."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.ctr_model import Batch
from scaling.batches.fixed_shapes import ANY_SHAPE, Shapes
from scaling.batches.gather import iterate_training
from scaling.batches.packing import (
    Groups,
    group_requests,
    group_stretches,
    groups_of_latest,
    iterate_packed,
    packed_rows,
    packed_samples_seen,
)
from scaling.batches.permutation import order_key, permuted_rows
from scaling.batches.read_ahead import exceeds_memory, reading_ahead
from scaling.batches.share import WHOLE, Share
from scaling.store import EventStore
from scaling.study import BatchPhase, RunConfig, batch_factor, batch_phases, rate_factor

__all__ = ["Epoch", "find_groups"]


class Epoch:
    """The epoch that `config` describes over `store`.

    Attributes:
        seen: impressions seen after each step [n_steps], int64.
    """

    def __init__(self, config: RunConfig, store: EventStore, groups: Groups | None = None) -> None:
        self._order: int | None = order_key("order", *config.order)
        if config.data_order == "recent":
            self._order = None
            groups = groups and groups_of_latest(groups, config.n_samples)
        self.config, self._store, self._groups = config, store, groups
        self._phases = batch_phases(config.n_samples, config.batch_size, config.batch_schedule)
        self._shares = shares = _step_ends(self._phases)
        self.seen: NDArray[np.int64] = (
            shares if groups is None else packed_samples_seen(groups, shares, self._order)
        )

    def n_in_step(self, step: int) -> int:
        """Impressions of one step."""
        return int(self.seen[step] - (self.seen[step - 1] if step else 0))

    @property
    def n_steps(self) -> int:
        """Steps of the whole epoch."""
        return len(self.seen)

    def rate(self, step: int) -> float:
        """Learning rate of the dense parameters at `step`."""
        return self.config.learning_rate * self.rate_factor(step)

    def rate_factor(self, step: int) -> float:
        """Every learning rate at `step` as a fraction of its peak."""
        config = self.config
        factor = rate_factor(step, self.n_steps, config.warmup_steps, config.schedule)
        if config.batch_schedule == "growing":
            factor *= batch_factor(self._batch_at(step), config.batch_size)
        return factor

    def batches(
        self,
        first_step: int,
        tokens_per_part: int,
        share: Share = WHOLE,
        shapes: Shapes = ANY_SHAPE,
    ) -> Iterator[list[Batch]]:
        """Yield the steps from `first_step` on, in parts, of each only `share`; earlier steps are not read."""
        where = (self._order, first_step, tokens_per_part, share, shapes)
        store, max_len = self._store, self.config.max_len
        if self._groups is not None:
            steps = iterate_packed(store, self._groups, self._shares, *where)
        else:
            steps = iterate_training(store, self._shares, max_len, *where)
        if not exceeds_memory(store):
            return steps
        return reading_ahead(store, steps, self._rows_of, first_step, self.n_steps, max_len)

    def rows(self) -> NDArray[np.int64]:
        """The impressions of the epoch in order of their steps [n_samples]; the order within a step may differ."""
        return self._rows(0, self.config.n_samples)

    def _rows(self, start: int, end: int) -> NDArray[np.int64]:
        """The impressions from place `start` to before `end` of the epoch."""
        if self._groups is not None:
            return self._packed_rows[start:end]
        places = np.arange(start, end)
        if self._order is None:
            return places + (self._store.n_train - self.config.n_samples)
        return permuted_rows(places, self._store.n_train, self._order)

    def _rows_of(self, step: int) -> NDArray[np.int64]:
        return self._rows(int(self.seen[step - 1]) if step else 0, int(self.seen[step]))

    @cached_property
    def _packed_rows(self) -> NDArray[np.int64]:
        assert self._groups is not None
        return packed_rows(self._groups, self.config.n_samples, self._order)

    def _batch_at(self, step: int) -> int:
        """The batch size of the phase in which `step` begins."""
        n_seen = self.seen[step - 1] if step else 0
        return next(phase.batch_size for phase in self._phases if n_seen < phase.end)

    def steps_shared(self, longer: "Epoch") -> int:
        """Return how many steps at the start of both epochs have the same samples and the same rates.

        The cool-down has begun before the end, and the last batch may be cut.
        """
        if self._order is None:
            return self.n_steps if longer is self else 0  # the smaller one begins later in time
        n_steps = min(self.n_steps, longer.n_steps)
        differs = np.flatnonzero(self.seen[:n_steps] != longer.seen[:n_steps])
        alike = int(differs[0]) if len(differs) else n_steps
        if self.config.schedule == "decay" and longer.n_steps > self.n_steps:
            alike = min(alike, self.n_steps // 2 + 1)
        return alike


def _step_ends(phases: Sequence[BatchPhase]) -> NDArray[np.int64]:
    """Return the samples seen after each step of an epoch that is not packed [n_steps]."""
    ends = [np.arange(p.first + p.batch_size, p.end + p.batch_size, p.batch_size) for p in phases]
    return np.minimum(np.concatenate(ends), phases[-1].end)


def find_groups(config: RunConfig, store: EventStore) -> Groups | None:
    """Return the passes of a packed run, which do not depend on its size; None if it is not packed."""
    if config.packing == "none":
        return None
    group = group_requests if config.packing == "request" else group_stretches
    return group(store, config.max_len)
