"""Metrics against scikit-learn, 50-digit decimals and plain counts: 10^6 rows, ties, soft labels, extreme logits."""

import math
import warnings
from decimal import Decimal, localcontext

import numpy as np
import pytest
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score

from scaling.metrics import evaluate
from scaling.ranking_within_users import evaluate_by_user

# sums of 10^6 rows in another order
ORDER = 1e-11


def rows_of_log(n, levels=None, seed=0):
    """True probabilities, labels drawn from them, and logits of a model that errs; rounded to `levels` they have ties."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(-1, 1.5, n)
    p = 1 / (1 + np.exp(-truth))
    label = (rng.random(n) < p).astype(np.uint8)
    logit = truth + rng.normal(0, 1, n)
    return p, label, logit if levels is None else np.round(logit * levels) / levels


def counted_auc(label, score):
    """The AUC and its DeLong error from counts: of the other class, how many rows lie below each row."""
    ours, theirs = score[label == 1], score[label == 0]

    def share_below(x, others):
        others = np.sort(others)
        sides = [np.searchsorted(others, x, side) for side in ("left", "right")]
        return (sides[0] + sides[1]) / 2 / len(others)

    of_positive, of_negative = share_below(ours, theirs), 1 - share_below(theirs, ours)
    variance = of_positive.var(ddof=1) / len(ours) + of_negative.var(ddof=1) / len(theirs)
    return of_positive.mean(), math.sqrt(variance)


def sklearn_soft_auc(p, score):
    """Each row once as a positive of weight p and once as a negative of weight 1 - p; then without its pair with itself."""
    n, weight = len(p), np.concatenate([p, 1 - p])
    label = np.repeat([1, 0], n)
    with_itself = roc_auc_score(label, np.tile(score, 2), sample_weight=weight)
    pairs, itself = p.sum() * (1 - p).sum(), (p * (1 - p)).sum()
    return (with_itself * pairs - itself / 2) / (pairs - itself)


@pytest.mark.slow
@pytest.mark.parametrize("levels", [None, 4], ids=["distinct", "ties"])
def test_a_million_rows_are_scored_as_scikit_learn_scores_them(levels):
    p, label, logit = rows_of_log(10**6, levels)
    metrics = evaluate(label, logit, p)
    predicted = 1 / (1 + np.exp(-logit))
    twice = [np.repeat([1, 0], len(p)), np.tile(predicted, 2)]
    base = label.mean()
    auc, error = counted_auc(label, logit)
    expected = {
        "logloss": log_loss(label, predicted),
        "auc": roc_auc_score(label, logit),
        "auc_stderr": error,
        "normalized_entropy": log_loss(label, predicted) / log_loss(label, np.full(len(p), base)),
        "calibration": math.fsum(predicted) / label.sum(),
        "soft_logloss": log_loss(*twice, sample_weight=np.concatenate([p, 1 - p])),
        "soft_auc": sklearn_soft_auc(p, logit),
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=ORDER)
    assert metrics["auc"] == pytest.approx(auc, rel=ORDER)


def expected_reciprocal_rank(label, score):
    """The mean of 1 / rank of the first positive over all orders of equal scores, from binomial coefficients."""
    best = score[label == 1].max()
    ahead, tied = int((score > best).sum()), score == best
    size, hits = int(tied.sum()), int(label[tied].sum())
    orders = math.comb(size, hits)
    return sum(
        math.comb(size - j, hits - 1) / orders / (ahead + j) for j in range(1, size - hits + 2)
    )


@pytest.mark.slow
def test_a_million_rows_are_ranked_within_users_as_scikit_learn_ranks_them():
    n, n_users, of_request = 10**6, 1000, 20
    _, label, logit = rows_of_log(n, levels=1, seed=1)  # with ties
    rng = np.random.default_rng(2)
    # users of unequal size, and rows in no order
    user = np.repeat(np.sort(rng.integers(0, n_users, n // of_request)), of_request)
    request = np.repeat(np.arange(n // of_request), of_request)
    by_request = (label.reshape(-1, of_request), logit.reshape(-1, of_request))
    hits = by_request[0].sum(axis=1)
    labels, scores = (part[(hits > 0) & (hits < of_request)] for part in by_request)
    starts = np.flatnonzero(np.diff(user)) + 1
    users = list(zip(np.split(label, starts), np.split(logit, starts), strict=True))
    auc, size = [roc_auc_score(a, b) for a, b in users], [len(a) for a, _ in users]
    expected = {
        "gauc": np.average(auc, weights=size),
        "uauc": np.mean(auc),
        "ndcg_at_5": ndcg_score(labels, scores, k=5),
        "ndcg_at_10": ndcg_score(labels, scores, k=10),
        "mrr": np.mean(
            [expected_reciprocal_rank(*one) for one in zip(labels, scores, strict=True)]
        ),
        "n_users_ranked": len(users),
        "n_requests_ranked": len(labels),
    }
    order = rng.permutation(n)
    metrics = evaluate_by_user(user[order], request[order], label[order], logit[order])
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=ORDER)


def exact_losses(p, z):
    """Cross-entropy of p and sigmoid(z), and KL(p || sigmoid(z)), in 400 digits: e^-800 beside 1 needs 350."""
    with localcontext() as context:
        context.prec = 400
        p, z = Decimal(float(p)), Decimal(float(z))
        above, below = (1 + (-z).exp()).ln(), (1 + z.exp()).ln()
        cross = p * above + (1 - p) * below
        entropy = -sum(q * q.ln() for q in (p, 1 - p) if q)
        return float(cross), float(cross - entropy)


@pytest.mark.parametrize("p", [0.0, 1e-300, 1e-9, 0.3, 1 - 1e-9, 1 - 2**-53, 1.0])
@pytest.mark.parametrize("z", [-800.0, -37.5, -1e-9, 0.0, 20.7, 745.2, 800.0])
def test_losses_of_extreme_logits_and_soft_labels_are_those_of_exact_decimals(p, z):
    metrics = evaluate(np.array([1, 0]), np.array([z, z]), np.array([p, p]))
    cross, divergence = exact_losses(p, z)
    assert metrics["soft_logloss"] == pytest.approx(cross, rel=1e-14, abs=1e-300)
    # a difference of terms of this size
    assert metrics["excess_logloss"] == pytest.approx(
        divergence, rel=1e-14, abs=4e-16 * max(1, abs(z))
    )


def test_one_class_is_not_scored_where_scikit_learn_scores_nothing():
    """Each kind of label that leaves no pair: scikit-learn gives NaN, too."""
    for label in ([0, 0, 0], [1, 1, 1], [1]):
        score = np.linspace(-1, 1, len(label))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = roc_auc_score(label, score)
        assert math.isnan(theirs)
        assert math.isnan(evaluate(np.array(label), score)["auc"])
        user = np.zeros(len(label), dtype=int)
        assert evaluate_by_user(user, user, np.array(label), score) == {}
