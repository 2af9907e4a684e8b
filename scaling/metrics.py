"""Metrics of click predictions from logits, with the standard errors that follow from the size of the test part.

If the true click probabilities are known (generated logs), the `soft_` metrics replace each drawn label by
its probability: same expectation, no label noise.
"""

from collections.abc import Mapping

import numpy as np

from scaling.arrays import Array

__all__ = [
    "auc_with_stderr",
    "entropy",
    "evaluate",
    "is_stderr",
    "learned_components",
    "soft_auc",
    "stderr_name",
    "true_limits",
]


_STDERR = "_stderr"


def stderr_name(metric: str) -> str:
    """Return the name under which records and tables store the standard error of a metric."""
    return metric + _STDERR


def is_stderr(name: str) -> bool:
    """Return whether a name is that of a metric's standard error."""
    return name.endswith(_STDERR)


def evaluate(label: Array, logit: Array, true_probability: Array | None = None) -> dict[str, float]:
    """Return the metrics of predictions `logit` for 0/1 labels, all [n_rows]; computed in float64.

    - `logloss`, `logloss_stderr`: mean of y log(1 + e^-z) + (1 - y) log(1 + e^z), in nats, and the standard error of that mean.
    - `auc`, `auc_stderr`: see `auc_with_stderr`; NaN when all labels are equal.
    - `normalized_entropy`: logloss over the entropy of the test part's own base rate (He et al. 2014);
      below 1 is better than a constant; NaN when all labels are equal.
    - `calibration`: sum of predicted probabilities over sum of labels; NaN without a positive label.
    - `base_rate`, `n_rows`.

    With `true_probability` p also:

    - `soft_logloss`, `soft_logloss_stderr`: cross-entropy of p and the prediction.
    - `excess_logloss`, `excess_logloss_stderr`: mean Kullback-Leibler divergence of p from the prediction,
      that is `soft_logloss` less the Bayes logloss; 0 for a perfect model, never negative.
    - `soft_auc`: see `soft_auc`. `soft_calibration`: sum of predicted over sum of true probabilities.

    A logit that is not finite makes the logloss NaN, so the failure is visible.
    """
    y = np.asarray(label, dtype=np.float64)
    z = np.asarray(logit, dtype=np.float64)
    base_rate = float(y.mean())
    with np.errstate(invalid="ignore"):
        loss = _cross_entropy(y, z)
        predicted = float(_sigmoid(z).sum())
        auc, auc_stderr = auc_with_stderr(y, z)
        metrics = {
            "n_rows": float(len(y)),
            "base_rate": base_rate,
            "logloss": float(loss.mean()),
            stderr_name("logloss"): _stderr(loss),
            "auc": auc,
            stderr_name("auc"): auc_stderr,
            "normalized_entropy": _ratio(float(loss.mean()), float(entropy(base_rate))),
            "calibration": _ratio(predicted, float(y.sum())),
        }
        if true_probability is not None:
            p = np.asarray(true_probability, dtype=np.float64)
            soft = _cross_entropy(p, z)
            excess = _divergence(p, z)
            metrics |= {
                "soft_logloss": float(soft.mean()),
                stderr_name("soft_logloss"): _stderr(soft),
                "excess_logloss": float(excess.mean()),
                stderr_name("excess_logloss"): _stderr(excess),
                "soft_auc": soft_auc(p, z),
                "soft_calibration": _ratio(predicted, float(p.sum())),
            }
    return metrics


def learned_components(
    true_probability: Array, logit: Array, components: Mapping[str, Array]
) -> dict[str, float]:
    """Return how much of each known part of the true logit a model has learned; all arrays [n_rows].

    The predicted logits are regressed on the `components` and a constant (least squares).

    - `learned_NAME`: the slope of a component, 1 if the model weighs it as the truth does, 0 if it ignores it.
    - `unexplained_excess`: `excess_logloss` less that of the regression's own predictions: what errors outside
      the components' span cost, in nats (e.g. of rows that were seen too seldom).
    """
    z = np.asarray(logit, dtype=np.float64)
    p = np.asarray(true_probability, dtype=np.float64)
    known = np.column_stack([*components.values(), np.ones(len(z))]).astype(np.float64)
    slopes = np.linalg.lstsq(known, z, rcond=None)[0]
    inside = float(_divergence(p, known @ slopes).mean())
    learned = {f"learned_{name}": float(b) for name, b in zip(components, slopes, strict=False)}
    return learned | {"unexplained_excess": float(_divergence(p, z).mean()) - inside}


def entropy(p: Array | float) -> Array:
    """Return the entropy of a click of probability `p` in nats; 0 at both ends."""
    p = np.asarray(p, dtype=np.float64)
    inside = np.clip(p, np.finfo(np.float64).tiny, 1.0)
    h: Array = -p * np.log(inside) - (1 - p) * np.log1p(-np.minimum(p, 1 - 2.0**-53))
    return h


def auc_with_stderr(label: Array, score: Array) -> tuple[float, float]:
    """Return the area under the ROC curve (ties count half) and DeLong's standard error of it.

    From midranks in O(n log n): DeLong et al. (1988), Biometrics 44, 837-845, in the form of Sun and Xu
    (2014), IEEE Signal Processing Letters 21, 1389-1393. Both are NaN when all labels are equal, the error
    also when there is only one row of a class.
    """
    positive = np.asarray(label) > 0.5
    score = np.asarray(score, dtype=np.float64)
    m, n = int(positive.sum()), int((~positive).sum())
    if not m or not n or np.isnan(score).any():
        return float("nan"), float("nan")
    ranks = _midranks(score)
    # Share of the other class that each row is ranked right against.
    of_positive = (ranks[positive] - _midranks(score[positive])) / n
    of_negative = 1 - (ranks[~positive] - _midranks(score[~positive])) / m
    if m < 2 or n < 2:
        return float(of_positive.mean()), float("nan")
    variance = of_positive.var(ddof=1) / m + of_negative.var(ddof=1) / n
    return float(of_positive.mean()), float(np.sqrt(variance))


def soft_auc(probability: Array, score: Array) -> float:
    """Return the AUC expected when labels are drawn from `probability`, weighting each pair by p_i (1 - p_j).

    A row counts as a positive of weight p and a negative of weight 1 - p; pairs of a row with itself are
    left out, ties of the score count half. With `score` = `probability` this is the best AUC possible.
    NaN when no pair has weight.
    """
    p = np.asarray(probability, dtype=np.float64)
    score = np.asarray(score, dtype=np.float64)
    if np.isnan(score).any():
        return float("nan")
    _, group = np.unique(score, return_inverse=True)
    positive = np.bincount(group, weights=p)
    negative = np.bincount(group, weights=1 - p)
    below = np.cumsum(negative) - negative
    itself = float((p * (1 - p)).sum())
    right = float((positive * (below + 0.5 * negative)).sum()) - 0.5 * itself
    pairs = float(positive.sum() * negative.sum()) - itself
    return right / pairs if pairs > 0 else float("nan")


def true_limits(probability: Array) -> dict[str, float]:
    """Return the best possible logloss and AUC if clicks are drawn from `probability` [n_rows].

    `bayes_logloss` (mean entropy of p), `bayes_auc` (soft AUC of p; left out if it is not defined) and
    `base_entropy` (entropy of the mean of p), in nats.
    """
    p = np.asarray(probability, dtype=np.float64)
    limits = {
        "bayes_logloss": float(entropy(p).mean()),
        "bayes_auc": soft_auc(p, p),
        "base_entropy": float(entropy(p.mean())),
    }
    return {name: value for name, value in limits.items() if np.isfinite(value)}


def _midranks(score: Array) -> Array:
    """Return ranks from 1; equal scores share the mean of theirs."""
    _, group, counts = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    midranks: Array = (last - (counts - 1) / 2)[group]
    return midranks


def _cross_entropy(p: Array, z: Array) -> Array:
    rows: Array = p * np.logaddexp(0.0, -z) + (1 - p) * np.logaddexp(0.0, z)
    return rows


def _sigmoid(z: Array) -> Array:
    p: Array = np.exp(-np.logaddexp(0.0, -z))
    return p


def _divergence(p: Array, z: Array) -> Array:
    """Return KL(p || sigmoid(z)) by row, without the cancellation of cross-entropy less entropy.

    With the true logit t it is p (t - z) + log(1 + e^z) - log(1 + e^t).
    """
    with np.errstate(divide="ignore"):
        t = np.log(p) - np.log1p(-p)
        inside = p * (t - z) + np.logaddexp(0.0, z) - np.logaddexp(0.0, t)
    certain = (p <= 0) | (p >= 1)
    rows: Array = np.maximum(np.where(certain, _cross_entropy(p, z), inside), 0.0)
    return rows


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _stderr(rows: Array) -> float:
    return float(rows.std(ddof=1) / np.sqrt(len(rows))) if len(rows) > 1 else float("nan")
