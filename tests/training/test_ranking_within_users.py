"""Metrics within users and requests, against their definitions row by row."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.metrics import auc_with_stderr
from scaling.ranking_within_users import evaluate_by_user


def sample(n_users, n_rows, seed, levels=None):
    rng = np.random.default_rng(seed)
    user = rng.integers(0, n_users, n_rows)
    request = user * 1000 + rng.integers(0, 4, n_rows)
    quality = rng.normal(size=n_rows)
    label = rng.random(n_rows) < 1 / (1 + np.exp(-quality))
    score = quality + rng.normal(size=n_rows)
    return user, request, label, score if levels is None else np.round(score * levels) / levels


def groups(key):
    return [np.flatnonzero(key == value) for value in np.unique(key)]


def slow_auc(user, label, score):
    """AUC of each user with both classes, and the numbers of rows."""
    found = [(auc_with_stderr(label[rows], score[rows])[0], len(rows)) for rows in groups(user)]
    return [(auc, n) for auc, n in found if math.isfinite(auc)]


def slow_ranking(request, label, score, of_order):
    """The mean over requests of the mean of `of_order` over all orders that the scores allow."""
    values = []
    for rows in groups(request):
        if 0 < label[rows].sum() < len(rows):
            orders = [
                order
                for order in itertools.permutations(rows)
                if all(score[a] >= score[b] for a, b in itertools.pairwise(order))
            ]
            values.append(np.mean([of_order(label[list(order)]) for order in orders]))
    return np.mean(values)


def ndcg(depth):
    def of_order(label):
        discounts = 1 / np.log2(np.arange(2, len(label) + 2))
        discounts[depth:] = 0
        return (label * discounts).sum() / (np.sort(label)[::-1] * discounts).sum()

    return of_order


def reciprocal_rank(label):
    return 1 / (1 + int(np.argmax(label)))


@pytest.mark.parametrize("levels", [None, 2, 1])
def test_gauc_and_uauc_are_means_over_users(levels):
    user, request, label, score = sample(30, 400, 1, levels)
    metrics = evaluate_by_user(user, request, label, score)
    pairs = slow_auc(user, label, score)
    assert metrics["n_users_ranked"] == len(pairs)
    assert metrics["gauc"] == pytest.approx(sum(a * n for a, n in pairs) / sum(n for _, n in pairs))
    assert metrics["uauc"] == pytest.approx(np.mean([a for a, _ in pairs]))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.booleans(), st.integers(-2, 2)), min_size=2, max_size=14
    )
)
def test_ndcg_and_mrr_are_means_over_all_orders_of_equal_scores(rows):
    request, label, score = (np.array(column) for column in zip(*rows, strict=True))
    score = score.astype(float)
    if max(np.bincount(request)) > 7:
        return  # too many orders
    metrics = evaluate_by_user(request, request, label, score)
    if not any(0 < label[g].sum() < len(g) for g in groups(request)):
        assert "mrr" not in metrics
        return
    for name, of_order in (
        ("ndcg_at_5", ndcg(5)),
        ("ndcg_at_10", ndcg(10)),
        ("mrr", reciprocal_rank),
    ):
        assert metrics[name] == pytest.approx(slow_ranking(request, label, score, of_order))


def test_the_order_of_the_rows_changes_nothing():
    user, request, label, score = sample(20, 300, 2, levels=1)
    once = evaluate_by_user(user, request, label, score)
    order = np.random.default_rng(0).permutation(300)
    again = evaluate_by_user(user[order], request[order], label[order], score[order])
    assert again == pytest.approx(once)


def test_a_constant_prediction_has_a_gauc_of_a_half():
    user, request, label, _ = sample(20, 300, 3)
    metrics = evaluate_by_user(user, request, label, np.zeros(300))
    assert metrics["gauc"] == metrics["uauc"] == 0.5


def test_what_no_user_has_is_left_out():
    user = np.arange(10)
    assert evaluate_by_user(user, user, user % 2, np.zeros(10)) == {}
    assert evaluate_by_user(user, user, user % 2, np.full(10, np.nan)) == {}


@pytest.mark.parametrize("metric", ["gauc", "uauc", "ndcg_at_5", "mrr"])
def test_the_error_is_the_spread_over_draws_of_the_users(metric):
    draws = [evaluate_by_user(*sample(60, 900, seed)) for seed in range(60)]
    spread = np.std([draw[metric] for draw in draws], ddof=1)
    # the relative error of a standard deviation from 60 draws is 9 %; three of them
    assert np.mean([draw[f"{metric}_stderr"] for draw in draws]) == pytest.approx(spread, rel=0.28)
