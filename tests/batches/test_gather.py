from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise

import numpy as np
import pytest
from steps import step_ends

from scaling.batches import iterate_test, iterate_training
from scaling.batches.gather import gather_batch
from scaling.batches.permutation import permuted_rows
from scaling.study import TOKENS_PER_PART


def test_a_history_is_the_users_latest_events_before_the_impression(tiny_store):
    """Against a loop over samples."""
    max_len, rows = 25, np.arange(0, tiny_store.n_impressions, 13)
    batch = gather_batch(tiny_store, rows, max_len)
    for index, row in enumerate(rows):
        first = tiny_store.offsets[tiny_store.user[row]]
        end = tiny_store.history_end[row]
        first = max(first, end - max_len)
        n_events = end - first
        assert batch.lengths[index] == n_events
        padding = batch.behaviours.shape[1] - n_events
        for column, feature in enumerate(tiny_store.schema.behaviour):
            expected = [0] * padding + tiny_store.behaviours[feature.name][first:end].tolist()
            assert batch.behaviours[index, :, column].tolist() == expected
        times = [*tiny_store.event_time[first:end].tolist(), tiny_store.time[row]]
        assert batch.times[index, padding:].tolist() == times
        hours = [0] * padding + [time // 3600 % 24 + 1 for time in times]
        assert batch.hours[index].tolist() == hours


def test_the_other_inputs_are_the_impressions_own(tiny_store):
    rows = np.array([3, 700, 5])
    batch = gather_batch(tiny_store, rows, 4)
    schema = tiny_store.schema
    groups = [
        (batch.candidate, schema.candidate, tiny_store.candidates, rows),
        (batch.context, schema.context, tiny_store.contexts, rows),
        (batch.profile, schema.profile, tiny_store.profiles, tiny_store.user[rows]),
    ]
    for values, features, arrays, index in groups:
        for column, feature in enumerate(features):
            assert values[:, column].tolist() == arrays[feature.name][index].tolist()
    assert batch.label.tolist() == tiny_store.label[rows].tolist()


def test_no_event_at_or_after_the_impression_is_read(tiny_store):
    batch = gather_batch(tiny_store, np.arange(tiny_store.n_impressions), 40)
    valid = np.arange(40) >= 40 - batch.lengths.numpy()[:, None]
    history, request = batch.times[:, :-1].numpy(), batch.times[:, -1:].numpy()
    assert (history < request)[valid].all()


def keys(parts):
    """What identifies the samples of a step, whatever its parts."""
    return sorted(
        (int(time), *candidate) for part in parts
        for time, candidate in zip(part.times[:, -1], part.candidate.tolist(), strict=True)
    )  # fmt: skip


def test_an_epoch_takes_each_sample_of_the_subset_once(tiny_store):
    steps = list(iterate_training(tiny_store, step_ends(500, 64), 5, order=7))
    assert [sum(len(part.label) for part in parts) for parts in steps] == [64] * 7 + [52]
    rows = permuted_rows(np.arange(500), tiny_store.n_train, 7)
    expected = keys([gather_batch(tiny_store, rows, 5)])
    assert keys([part for parts in steps for part in parts]) == expected


def test_the_parts_of_a_step_hold_few_tokens_and_similar_lengths(tiny_store):
    (parts,) = iterate_training(tiny_store, step_ends(1200, 1200), 300, order=7)
    assert len(parts) > 3
    for longer, shorter in pairwise(parts):
        assert longer.times.numel() <= TOKENS_PER_PART
        assert longer.lengths.min() >= shorter.lengths.max()


def test_an_epoch_can_start_at_any_step(tiny_store):
    whole = list(iterate_training(tiny_store, step_ends(300, 64), 5, order=7))
    rest = list(iterate_training(tiny_store, step_ends(300, 64), 5, order=7, first_step=3))
    assert len(rest) == 2
    assert keys(whole[3]) == keys(rest[0])


def test_only_training_rows_are_trained_on(tiny_store):
    steps = iterate_training(tiny_store, step_ends(1200, 256), 1, 3)
    last = max(part.times[:, -1].max() for parts in steps for part in parts)
    assert last <= tiny_store.time[: tiny_store.n_train].max()


@pytest.mark.parametrize("max_len", [1, 10, 200])
def test_the_test_part_is_read_once_whole(tiny_store, max_len):
    seen = np.concatenate([p for p, _ in iterate_test(tiny_store, max_len, tokens_per_batch=500)])
    assert np.array_equal(np.sort(seen), np.arange(tiny_store.n_test))


def test_a_test_batch_holds_at_most_so_many_tokens(tiny_store):
    for _, batch in iterate_test(tiny_store, 30, tokens_per_batch=500):
        assert batch.times.numel() <= 500 or len(batch.label) == 1


@pytest.mark.parametrize("offset", [8 * 3600, -5 * 3600, 19_800])
def test_hours_of_the_day_are_those_of_the_logs_zone(tiny_store, offset):
    store = replace(tiny_store, utc_offset_seconds=offset)
    batch = gather_batch(store, np.arange(50), 10)
    zone = timezone(timedelta(seconds=offset))
    expected = [datetime.fromtimestamp(t, zone).hour + 1 for t in store.time[:50].tolist()]
    assert batch.hours[:, -1].tolist() == expected
