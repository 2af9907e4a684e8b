"""Paired differences between runs of the same data size and seed, which share their data and much of their noise."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from analysis.table import describe_variants, require_columns, value_text, variant_label
from scaling.errors import UserError

__all__ = ["paired_differences"]


_PAIR = ("data_fingerprint", "n_samples", "seed")


def paired_differences(
    table: pd.DataFrame,
    baseline: pd.Series,
    metrics: Sequence[str],
    *,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Compare every variant with the baseline, in pairs of runs with the same data size and seed.

    The interval is Student's, for the mean difference of the pairs. It assumes roughly normal differences and
    covers the variation between seeds only. NaN for a single pair.

    Args:
        table: one row per run.
        baseline: boolean, the rows of the baseline; at most one per data size and seed.
        metrics: columns to compare.
        confidence: level of each single interval.

    Returns:
        One row per variant and data size: the columns in which variants differ, `n_samples`, `n_pairs`, and for
        each metric its mean over the pairs, `METRIC_difference` (variant minus baseline), `METRIC_low` and
        `METRIC_high`.

    Raises:
        UserError: a metric or n_samples is not a column of numbers, there is no column seed, the baseline is
            empty or ambiguous, or there is no pair.
    """
    require_columns(table, ["n_samples", *metrics])
    if "seed" not in table.columns:
        raise UserError("table: no column seed, but the runs of a pair have the same seed")
    base, pair = table[baseline], [c for c in _PAIR if c in table.columns]
    if base.empty:
        raise UserError("no run is the baseline")
    names = describe_variants(table)
    twice = base[base.duplicated(pair, keep=False)]
    if len(twice):
        differ = [name for name in names if len(twice[name].unique()) > 1]
        if not differ:
            first = twice[pair].iloc[0]
            repeated = ", ".join(f"{column} {value_text(first[column])}" for column in pair)
            raise UserError(f"several runs of a seed are the baseline: {repeated} stands twice")
        variants = " and ".join(
            f"{name}={value_text(value)}" for name in differ for value in twice[name].unique()[:2]
        )
        raise UserError(f"several runs of a seed are the baseline: {variants}; name one variant")
    rows = []
    others = table[~baseline]
    groups = [*names, *pair[:-1]]
    for values, variant in others.groupby(groups, dropna=False):
        row: dict[str, object] = dict(zip(groups, values, strict=True))
        pairs = variant.merge(base, on=pair, suffixes=("", "_base"))
        if pairs.empty:
            continue
        if pairs["seed"].duplicated().any():
            name = variant_label(groups, values)
            raise UserError(
                f"several runs of a seed belong to one variant ({name}); select the rows of one of them"
            )
        row["n_pairs"] = len(pairs)
        for metric in metrics:
            row |= _difference(metric, pairs[metric], pairs[f"{metric}_base"], confidence)
        rows.append(row)
    if not rows:
        raise UserError("no other run has the data size and the seed of a baseline's")
    return pd.DataFrame(rows)


def _difference(
    metric: str, ours: pd.Series, theirs: pd.Series, confidence: float
) -> dict[str, float]:
    difference = (ours - theirs).to_numpy(float)
    mean, n = float(difference.mean()), len(difference)
    half = float("nan")
    if n > 1:
        half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * difference.std(ddof=1) / np.sqrt(n))
    return {
        metric: float(ours.mean()),
        f"{metric}_difference": mean,
        f"{metric}_low": mean - half,
        f"{metric}_high": mean + half,
    }
