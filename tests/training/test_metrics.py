import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scaling.metrics import auc_with_stderr, entropy, evaluate, learned_components, soft_auc


def brute_force_auc(label, score):
    """Mean and DeLong error from every pair of a positive and a negative."""
    positive, negative = score[label == 1], score[label == 0]
    kernel = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    of_positive, of_negative = kernel.mean(axis=1), kernel.mean(axis=0)
    variance = of_positive.var(ddof=1) / len(positive) + of_negative.var(ddof=1) / len(negative)
    return kernel.mean(), np.sqrt(variance)


def brute_force_soft_auc(p, score):
    right = pairs = 0.0
    for i in range(len(p)):
        for j in range(len(p)):
            if i != j:
                weight = p[i] * (1 - p[j])
                pairs += weight
                right += weight * ((score[i] > score[j]) + 0.5 * (score[i] == score[j]))
    return right / pairs


def sample(n=300, seed=0, levels=None):
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n)
    label = (rng.random(n) < 1 / (1 + np.exp(-score))).astype(np.uint8)
    score = score + rng.normal(size=n)
    return label, score if levels is None else np.round(score * levels) / levels


@pytest.mark.parametrize("levels", [None, 3, 1])
def test_auc_and_its_error_equal_the_pairwise_count(levels):
    label, score = sample(levels=levels)
    # The same sums in another order: a few ulp.
    assert auc_with_stderr(label, score) == pytest.approx(brute_force_auc(label, score), rel=1e-12)


def test_the_error_of_auc_is_the_spread_over_test_parts():
    values = [auc_with_stderr(*sample(n=400, seed=seed)) for seed in range(400)]
    spread = np.std([auc for auc, _ in values])
    # The relative error of a standard deviation from 400 draws is 1/sqrt(800) = 3.5 %; three of them.
    assert np.mean([error for _, error in values]) == pytest.approx(spread, rel=0.11)


labelled = st.integers(3, 40).flatmap(
    lambda n: st.tuples(
        arrays(np.uint8, n, elements=st.integers(0, 1)),
        arrays(np.int64, n, elements=st.integers(-20, 20)),
    )
)


@settings(deadline=None)
@given(labelled)
def test_auc_ignores_monotone_transforms_and_mirrors_when_labels_flip(case):
    label, score = case
    auc, error = auc_with_stderr(label, score)
    assert auc_with_stderr(label, np.exp(score / 4.0) + 7) == pytest.approx(
        (auc, error), nan_ok=True
    )
    assert auc_with_stderr(1 - label, score) == pytest.approx((1 - auc, error), nan_ok=True)
    assert np.isnan(auc) or 0 <= auc <= 1


@settings(deadline=None, max_examples=50)
@given(
    st.integers(2, 15).flatmap(
        lambda n: st.tuples(
            arrays(np.float64, n, elements=st.floats(0.01, 0.99)),
            arrays(np.int64, n, elements=st.integers(-3, 3)),
        )
    )
)
def test_soft_auc_equals_the_weighted_count_of_pairs(case):
    p, score = case
    assert soft_auc(p, score) == pytest.approx(brute_force_soft_auc(p, score), rel=1e-9)


def test_soft_auc_of_certain_labels_is_the_auc():
    label, score = sample(levels=3)
    assert soft_auc(label, score) == pytest.approx(auc_with_stderr(label, score)[0], rel=1e-12)


def test_no_score_beats_the_true_probability():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 0.95, 200)
    best = soft_auc(p, p)
    assert all(soft_auc(p, p + rng.normal(scale=0.05, size=200)) < best for _ in range(20))


def test_the_soft_metrics_are_the_expectation_over_labels():
    rng = np.random.default_rng(1)
    z = rng.normal(size=500)
    p = np.clip(1 / (1 + np.exp(-z)) + rng.normal(scale=0.1, size=500), 0.01, 0.99)
    soft = evaluate(rng.random(500) < p, z, p)
    draws = [evaluate(rng.random(500) < p, z) for _ in range(400)]
    for metric in ("logloss", "auc"):
        values = [draw[metric] for draw in draws]
        # Four standard errors of the mean of 400 draws; the AUC of a sample is unbiased to O(1/n).
        bound = 4 * np.std(values) / 20
        assert abs(np.mean(values) - soft[f"soft_{metric}"]) < bound


def test_values_of_a_case_by_hand():
    metrics = evaluate(np.array([1, 0, 0, 1]), np.log([3.0, 1.0, 1 / 3, 1 / 3]))
    losses = -np.log([0.75, 0.5, 0.75, 0.25])
    assert metrics["logloss"] == pytest.approx(losses.mean())
    assert metrics["logloss_stderr"] == pytest.approx(losses.std(ddof=1) / 2)
    assert metrics["normalized_entropy"] == pytest.approx(losses.mean() / np.log(2))
    assert metrics["calibration"] == pytest.approx(1.75 / 2)
    assert metrics["auc"] == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert (metrics["base_rate"], metrics["n_rows"]) == (0.5, 4)


def test_a_perfect_model_has_no_excess_and_an_imperfect_one_has_soft_loss_less_bayes():
    rng = np.random.default_rng(2)
    t = rng.normal(scale=3, size=1000)
    p = 1 / (1 + np.exp(-t))
    label = rng.random(1000) < p
    assert evaluate(label, t, p)["excess_logloss"] < 1e-15
    other = evaluate(label, t + rng.normal(size=1000), p)
    expected = other["soft_logloss"] - entropy(p).mean()
    assert other["excess_logloss"] == pytest.approx(expected, rel=1e-10)


@settings(deadline=None)
@given(
    arrays(np.float64, 8, elements=st.floats(0, 1)),
    arrays(np.float64, 8, elements=st.floats(-700, 700)),
)
def test_excess_is_never_negative_and_finite_for_finite_logits(p, z):
    metrics = evaluate(p > 0.5, z, p)
    assert 0 <= metrics["excess_logloss"] < np.inf
    assert 0 <= metrics["logloss"] < np.inf


def test_huge_logits_lose_nothing():
    metrics = evaluate(np.array([1, 0, 1, 0]), np.array([800.0, -800.0, -800.0, 800.0]))
    assert metrics["logloss"] == 400.0
    assert metrics["auc"] == 0.5


def test_float32_logits_are_summed_in_float64():
    label, logit = sample(n=100_000)
    logit = logit.astype(np.float32)
    assert evaluate(label, logit) == evaluate(label, logit.astype(np.float64))


@pytest.mark.parametrize("value", [0, 1])
def test_labels_of_one_class_have_no_auc_but_a_logloss(value):
    metrics = evaluate(np.full(5, value), np.zeros(5))
    assert metrics["logloss"] == pytest.approx(np.log(2))
    assert np.isnan([metrics["auc"], metrics["auc_stderr"], metrics["normalized_entropy"]]).all()
    assert np.isnan(metrics["calibration"]) == (value == 0)


def test_a_logit_that_is_nan_is_not_hidden():
    metrics = evaluate(np.array([0, 1, 1]), np.array([0.0, np.nan, 1.0]), np.full(3, 0.5))
    assert np.isnan([metrics[name] for name in ("logloss", "auc", "soft_auc", "calibration")]).all()


def test_entropy_is_zero_at_both_ends_and_log_two_in_the_middle():
    assert entropy(np.array([0.0, 0.5, 1.0])).tolist() == pytest.approx(
        [0, np.log(2), 0], abs=1e-15
    )


def test_the_slopes_say_how_much_of_each_component_is_learned():
    rng = np.random.default_rng(0)
    parts = {"item": rng.normal(size=4000), "context": rng.normal(size=4000) * 0.3}
    p = 1 / (1 + np.exp(-(parts["item"] + parts["context"] - 1)))
    learned = learned_components(p, 0.5 * parts["item"] + 2 * parts["context"] + 0.7, parts)
    assert learned["learned_item"] == pytest.approx(0.5, abs=1e-12)
    assert learned["learned_context"] == pytest.approx(2, abs=1e-12)
    assert learned["unexplained_excess"] == pytest.approx(0, abs=1e-12)


def test_an_error_beside_the_components_is_unexplained():
    rng = np.random.default_rng(0)
    parts = {"item": rng.normal(size=40_000)}
    p = 1 / (1 + np.exp(-parts["item"]))
    logit = parts["item"] + 0.3 * rng.normal(size=40_000)
    learned = learned_components(p, logit, parts)
    assert learned["learned_item"] == pytest.approx(1, abs=0.01)
    # the divergence of a small error e is e^2 p (1 - p) / 2
    assert learned["unexplained_excess"] == pytest.approx(0.045 * (p * (1 - p)).mean(), rel=0.05)
