"""Metrics within users and requests, which a ranking is judged by: GAUC, UAUC, NDCG and MRR, with errors over users.

Equal scores are ordered at random: each metric is its mean over these orders, so that a constant prediction gains nothing
from the order of the rows.
"""

import numpy as np

from scaling.arrays import Array
from scaling.metrics import stderr_name

__all__ = ["evaluate_by_user"]


_RESAMPLES = 200
_DEPTHS = (5, 10)


def evaluate_by_user(
    user: Array, request: Array, label: Array, logit: Array, seed: int = 0
) -> dict[str, float]:
    """Return the metrics of predictions `logit` for 0/1 labels of users and requests, all [n_rows].

    - `gauc`: mean AUC of the users who have both a positive and a negative row, weighted by their rows (Zhou et al. 2018,
      Deep Interest Network, equation 5). `uauc`: the same, unweighted. `n_users_ranked`: how many users that are.
    - `ndcg_at_5`, `ndcg_at_10`: normalised discounted cumulative gain within a request, discount 1 / log2(rank + 1); mean over
      the requests with a positive and a negative row. `mrr`: mean of 1 / rank of their first positive row.
      `n_requests_ranked`: how many requests that are.
    - Each with `_stderr`: the spread over 200 resamples of the users (bootstrap), whose requests stay together.

    A metric of which no user or request has both classes is left out, and so are all if a logit is not finite.
    """
    logit = np.asarray(logit, dtype=np.float64)
    positive = np.asarray(label) > 0.5
    if not np.isfinite(logit).all():
        return {}
    metrics: dict[str, float] = {}
    users = np.unique(np.asarray(user), return_inverse=True)[1]
    auc, rows = _auc_of_groups(users, positive, logit)
    ranked = np.flatnonzero(np.isfinite(auc))
    if len(ranked):
        weights = rows[ranked].astype(np.float64)
        metrics["n_users_ranked"] = float(len(ranked))
        parts = {
            "gauc": (auc[ranked] * weights, weights),
            "uauc": (auc[ranked], np.ones(len(ranked))),
        }
        metrics |= _ratios(parts, seed)
    scores, owner = _scores_of_requests(users, np.asarray(request), positive, logit)
    if len(owner):
        metrics["n_requests_ranked"] = float(len(owner))
        place = np.unique(owner, return_inverse=True)[1]
        counts = np.bincount(place).astype(np.float64)
        parts = {name: (np.bincount(place, values), counts) for name, values in scores.items()}
        metrics |= _ratios(parts, seed)
    return metrics


def _ratios(parts: dict[str, tuple[Array, Array]], seed: int) -> dict[str, float]:
    """The ratios of two sums over users, with the spread of these ratios over resamples of the users."""
    n = len(next(iter(parts.values()))[0])
    generator = np.random.default_rng(seed)
    found: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(_RESAMPLES if n > 1 else 0):
        times = np.bincount(generator.integers(0, n, n), minlength=n)
        for name, (above, below) in parts.items():
            found[name].append(float(times @ above / (times @ below)))
    metrics = {}
    for name, (above, below) in parts.items():
        metrics[name] = float(above.sum() / below.sum())
        metrics[stderr_name(name)] = float(np.std(found[name], ddof=1)) if n > 1 else float("nan")
    return metrics


def _auc_of_groups(group: Array, positive: Array, score: Array) -> tuple[Array, Array]:
    """Return the AUC of each group [n_groups], NaN with one class, and the numbers of rows; ties count half."""
    order = np.lexsort([score, group])
    midranks = np.empty(len(order))
    midranks[order] = _midranks_within(group[order], score[order])
    n_groups = int(group.max()) + 1
    rows = np.bincount(group, minlength=n_groups)
    m = np.bincount(group, positive, minlength=n_groups)
    above = np.bincount(group, midranks * positive, minlength=n_groups) - m * (m + 1) / 2
    pairs = m * (rows - m)
    return np.divide(above, pairs, out=np.full(n_groups, np.nan), where=pairs > 0), rows


def _midranks_within(group: Array, score: Array) -> Array:
    """Ranks from 1 within each group of sorted rows; equal scores share the mean of theirs."""
    first, last = _tie_places(group, score)
    midranks: Array = (first + last) / 2 + 1
    return midranks


def _tie_places(group: Array, score: Array) -> tuple[Array, Array]:
    """The first and the last place, from 0 within the group, of the rows that a sorted row is tied with."""
    n = len(group)
    index = np.arange(n)
    starts_group = np.append(True, group[1:] != group[:-1])
    starts_tie = starts_group | np.append(True, score[1:] != score[:-1])
    begin = np.maximum.accumulate(np.where(starts_group, index, 0))
    tie = np.cumsum(starts_tie) - 1
    first = index[starts_tie]
    last = np.append(first[1:], n) - 1
    return first[tie] - begin, last[tie] - begin


def _scores_of_requests(
    user: Array, request: Array, positive: Array, score: Array
) -> tuple[dict[str, Array], Array]:
    """Return NDCG and reciprocal rank of each request with both classes, and the request's user."""
    group = np.unique(request, return_inverse=True)[1]
    n_groups = int(group.max()) + 1
    rows, hits = np.bincount(group), np.bincount(group, positive)
    mixed = (hits > 0) & (hits < rows)
    chosen = np.flatnonzero(mixed[group])
    if not len(chosen):
        return {}, np.empty(0, dtype=np.int64)
    order = chosen[np.lexsort([-score[chosen], group[chosen]])]
    group, good = group[order], positive[order]
    first, last = _tie_places(group, -score[order])
    owner = np.zeros(n_groups, dtype=np.int64)
    owner[group] = user[order]
    scores = {}
    for depth in _DEPTHS:
        discounts = np.zeros(int(rows.max()) + 1)
        discounts[1 : depth + 1] = 1 / np.log2(np.arange(2, depth + 2))[: len(discounts) - 1]
        total = np.cumsum(discounts)
        # the mean discount of the places that a row may take
        mean = (total[last + 1] - total[first]) / (last - first + 1)
        gained = np.bincount(group, mean * good, minlength=n_groups)
        best = total[np.minimum(hits.astype(np.int64), len(total) - 1)]
        scores[f"ndcg_at_{depth}"] = gained[mixed] / best[mixed]
    scores["mrr"] = _reciprocal_ranks(group, good, first, last, n_groups)[mixed]
    return scores, owner[mixed]


def _reciprocal_ranks(group: Array, good: Array, first: Array, last: Array, n_groups: int) -> Array:
    """The mean of 1 / rank of each group's first positive row; rows are sorted, best first."""
    at = np.flatnonzero(good)
    leader = at[np.append(True, group[at][1:] != group[at][:-1])]
    start, size = first[leader], last[leader] - first[leader] + 1
    tied = np.searchsorted(
        group * (len(group) + 1) + first, group[leader] * (len(group) + 1) + start
    )
    counts = np.concatenate([[0], np.cumsum(good)])
    hits = counts[tied + size] - counts[tied]
    expected = np.zeros(len(leader))
    # of `size` tied rows with `hits` positives, the first positive is at place j with probability `chance`
    left = np.ones(len(leader))
    for j in range(int(size.max())):
        inside = j < size
        chance = np.where(inside, left * np.minimum(1, hits / np.maximum(size - j, 1)), 0)
        expected += chance / (start + j + 1)
        left = left - chance
    ranks = np.zeros(n_groups)
    ranks[group[leader]] = expected
    return ranks
