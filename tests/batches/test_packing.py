"""Packed passes equal one pass per impression, in float64 to 1e-12."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_models import random_model
from steps import step_ends

from models.grades import Grade
from models.model_options import SuanOptions
from scaling.batches.gather import gather_batch, gather_packed
from scaling.batches.packing import group_requests, group_stretches, iterate_packed
from scaling.study import TOKENS_PER_PART

START = SuanOptions(pooling="running", positions="start")


def made_of(store, options, n_layers, max_len):
    return random_model(Grade(n_layers, 2, 8, max_len), options, store.schema)


def requests_of(store, n):
    """Rows [B, M] of the first n requests, -1 where a request has fewer."""
    requests = np.unique(store.request[: store.n_train])[:n]
    rows = [np.flatnonzero(store.request == request) for request in requests]
    packed = np.full((n, max(map(len, rows))), -1)
    for index, own in enumerate(rows):
        packed[index, : len(own)] = own
    return packed


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [SuanOptions(), SuanOptions(pooling="running"), START, SuanOptions(fusion="sum")],
    ids=["behaviours", "running", "start", "sum"],
)
def test_the_candidates_of_a_request_share_a_pass(tiny_store, options, n_layers):
    max_len = 20
    model = made_of(tiny_store, options, n_layers, max_len)
    rows = requests_of(tiny_store, 30)
    ends = tiny_store.history_end[rows[:, 0]]
    starts = np.maximum(tiny_store.offsets[tiny_store.user[rows[:, 0]]], ends - max_len)
    batch = gather_packed(tiny_store, rows, starts, stretches=False)
    packed = model(batch)[batch.present]
    single = model(gather_batch(tiny_store, rows[rows >= 0], max_len))
    assert (packed - single).abs().max() < 1e-12


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_a_stretch_of_requests_shares_a_pass(tiny_store, n_layers):
    """Each user's whole log in one pass, against a pass per impression over the same window."""
    model = made_of(tiny_store, START, n_layers, 300)
    users = np.unique(tiny_store.user[: tiny_store.n_train])[:4]
    own = [np.flatnonzero(tiny_store.user[: tiny_store.n_train] == user) for user in users]
    rows = np.full((len(users), max(map(len, own))), -1)
    for index, values in enumerate(own):
        rows[index, : len(values)] = values
    batch = gather_packed(tiny_store, rows, tiny_store.offsets[users], stretches=True)
    packed = model(batch)[batch.present]
    single = model(gather_batch(tiny_store, rows[rows >= 0], 300))
    assert (packed - single).abs().max() < 1e-12


def test_gradients_are_those_of_single_passes(tiny_store):
    model = made_of(tiny_store, SuanOptions(), 2, 20)
    rows = requests_of(tiny_store, 10)
    ends = tiny_store.history_end[rows[:, 0]]
    starts = np.maximum(tiny_store.offsets[tiny_store.user[rows[:, 0]]], ends - 20)
    dense = [p for name, p in model.named_parameters() if name != "embeddings.weight"]

    def gradients(logits):
        return torch.autograd.grad(logits.square().sum(), dense)

    batch = gather_packed(tiny_store, rows, starts, stretches=False)
    packed = gradients(model(batch)[batch.present])
    single = gradients(model(gather_batch(tiny_store, rows[rows >= 0], 20)))
    for one, other in zip(packed, single, strict=True):
        assert (one - other).abs().max() <= 1e-11 * max(1.0, other.abs().max().item())


@pytest.mark.parametrize(
    ("options", "stretches", "message"),
    [
        (SuanOptions(pooling="all"), False, 'pooling = "behaviours" or "running"'),
        (SuanOptions(), True, 'positions = "start"'),
        (replace(START, target_aware=False), True, "target_aware = true"),
    ],
)
def test_packing_that_would_not_be_exact_is_refused(tiny_store, options, stretches, message):
    model = made_of(tiny_store, options, 1, 20)
    rows = requests_of(tiny_store, 2)
    starts = tiny_store.offsets[tiny_store.user[rows[:, 0]]]
    with pytest.raises(ValueError, match=message):
        model(gather_packed(tiny_store, rows, starts, stretches=stretches))


GROUPINGS = [group_requests, group_stretches]


@pytest.mark.parametrize("group", GROUPINGS)
def test_groups_hold_each_training_impression_once(tiny_store, group):
    groups = group(tiny_store, 20)
    assert np.array_equal(np.sort(groups.rows), np.arange(tiny_store.n_train))
    assert groups.counts.min() >= 1


@pytest.mark.parametrize("group", GROUPINGS)
def test_a_group_is_one_users_and_reads_no_later_event(tiny_store, group):
    groups = group(tiny_store, 20)
    for index, start in enumerate(groups.starts):
        rows = groups.rows[groups.first[index] : groups.first[index + 1]]
        assert len(set(tiny_store.user[rows])) == 1
        assert (tiny_store.history_end[rows] >= start).all()
        assert start >= tiny_store.offsets[tiny_store.user[rows[0]]]


def test_an_impression_of_a_stretch_reads_half_to_all_of_the_window(tiny_store):
    groups = group_stretches(tiny_store, 20)
    start = np.repeat(groups.starts, groups.counts)
    read = tiny_store.history_end[groups.rows] - start
    all_of_it = (
        tiny_store.history_end[groups.rows] - tiny_store.offsets[tiny_store.user[groups.rows]]
    )
    assert read.max() <= 20
    assert (read[all_of_it > 20] > 10).all()
    assert (read == all_of_it)[all_of_it <= 20].all()


@pytest.mark.parametrize("group", GROUPINGS)
@pytest.mark.parametrize("n_samples", [1, 63, 64, 700, 1200])
def test_an_epoch_has_exactly_so_many_samples_in_nested_order(tiny_store, group, n_samples):
    def labels(n):
        steps = iterate_packed(tiny_store, group(tiny_store, 20), step_ends(n, 64), order=5)
        return [
            (int(time), *candidate, int(user_first))
            for parts in steps
            for part in parts
            for times, candidates, there, user_first in zip(
                part.times[:, -part.label.shape[1] :], part.candidate.tolist(), part.present,
                part.profile[:, 0], strict=True,
            )
            for time, candidate, is_there in zip(times, candidates, there, strict=True)
            if is_there
        ]  # fmt: skip

    seen = labels(n_samples)
    assert len(seen) == n_samples
    everything = labels(tiny_store.n_train)
    assert set(seen) <= set(everything)


@pytest.mark.parametrize("group", GROUPINGS)
def test_a_part_holds_few_tokens(tiny_store, group):
    for parts in iterate_packed(tiny_store, group(tiny_store, 300), step_ends(1200, 1200), order=5):
        for part in parts:
            assert part.times.numel() <= TOKENS_PER_PART or len(part.label) == 1
