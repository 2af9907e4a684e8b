"""The order in time: the latest impressions of the training part, once, oldest first."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import small_config

from scaling.batches import Epoch, find_groups
from scaling.batches.gather import gather_batch

PACKINGS = ("none", "request", "stretch")


def epoch(store, n_samples, packing="none", **changes):
    config = small_config(
        store, data_order="recent", n_samples=n_samples, packing=packing, **changes
    )
    return Epoch(config, store, find_groups(config, store))


def labels_of(batch):
    return batch.label.flatten() if batch.present is None else batch.label[batch.present]


@pytest.mark.parametrize("packing", PACKINGS)
@settings(deadline=None, max_examples=15)
@given(n_samples=st.integers(1, 1200))
def test_an_epoch_has_exactly_the_latest_impressions(tiny_store, packing, n_samples):
    rows = epoch(tiny_store, n_samples, packing).rows()
    latest = np.arange(tiny_store.n_train - n_samples, tiny_store.n_train)
    assert np.array_equal(np.sort(rows), latest)


@pytest.mark.parametrize("packing", ["none", "request"])
def test_time_never_goes_back(tiny_store, packing):
    rows = epoch(tiny_store, 700, packing).rows()
    assert (np.diff(tiny_store.time[rows]) >= 0).all()


def test_stretches_follow_their_last_impressions(tiny_store):
    """A stretch is one user's, so a change of user ends it."""
    rows = epoch(tiny_store, 700, "stretch").rows()
    last = np.append(np.flatnonzero(np.diff(tiny_store.user[rows])), len(rows) - 1)
    assert (np.diff(tiny_store.time[rows][last]) >= 0).all()


@pytest.mark.parametrize("packing", PACKINGS)
def test_the_steps_train_on_the_rows_of_the_epoch(tiny_store, packing):
    whole = epoch(tiny_store, 330, packing)
    steps = list(whole.batches(0, 4096))
    assert len(steps) == whole.n_steps
    rows = whole.rows()
    starts = np.concatenate([[0], whole.seen[:-1]])
    for parts, start, end in zip(steps, starts, whole.seen, strict=True):
        own = gather_batch(tiny_store, rows[start:end], 20)
        clicks = sum(int(labels_of(part).sum()) for part in parts)
        assert clicks == int(own.label.sum())
        assert sum(len(labels_of(part)) for part in parts) == end - start


@pytest.mark.parametrize("packing", PACKINGS)
def test_steps_from_the_middle_are_those_of_the_whole_epoch(tiny_store, packing):
    whole = epoch(tiny_store, 330, packing)
    tail = list(whole.batches(5, 4096))
    for parts, again in zip(list(whole.batches(0, 4096))[5:], tail, strict=True):
        assert [p.times.tolist() for p in parts] == [p.times.tolist() for p in again]


def test_every_seed_and_grade_has_the_same_rows(tiny_store):
    assert (epoch(tiny_store, 200).rows() == epoch(tiny_store, 200, seed=3).rows()).all()
    assert epoch(tiny_store, 200).config.order == epoch(tiny_store, 200, seed=3).config.order


def test_two_sizes_share_no_step(tiny_store):
    """The smaller one begins later in time, so that no training can serve both."""
    small, large = (
        epoch(tiny_store, 320, schedule="constant"),
        epoch(tiny_store, 640, schedule="constant"),
    )
    assert small.steps_shared(large) == 0
    assert small.config.trajectory != large.config.trajectory
