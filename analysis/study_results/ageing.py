"""How fast models age: their metrics by day after the last training impression, as means over seeds."""

from dataclasses import dataclass

import pandas as pd

__all__ = ["Ageing", "find_ageing"]


@dataclass(frozen=True)
class Ageing:
    """The largest model's logloss by day, one row per data order and data size.

    Attributes:
        grade: the name of the model's grade.
        metric: `soft_logloss` if it is known, else `logloss`.
        by_day: the metric; index (data_order, n_samples), one column per day.
        entropy: the entropy of each day's share of clicks: the loss of a model that knows only that share.
        lost: index as `by_day`: the change per day of the metric over the day's entropy, in percent of that entropy.
    """

    grade: str
    metric: str
    by_day: pd.DataFrame
    entropy: pd.Series
    lost: pd.Series


def find_ageing(days: pd.DataFrame) -> Ageing | None:
    """Summarise a `days_table`; None if it has fewer than two days."""
    if "logloss" not in days.columns or days["day"].nunique() < 2:
        return None
    rows = days[days["n_params"] == days["n_params"].max()]
    metric = (
        "soft_logloss" if rows.get("soft_logloss", pd.Series([None])).notna().all() else "logloss"
    )
    keys = ["data_order", "n_samples"]
    by_day = rows.pivot_table(index=keys, columns="day", values=metric)
    # the day's entropy is the same for all runs; a day with one class has none
    entropy = (rows["logloss"] / rows["normalized_entropy"]).groupby(rows["day"]).mean()
    ratio = by_day / entropy
    number = ratio.columns.to_series().astype(float)
    centred = number - number.mean()
    lost = 100 * ratio.mul(centred, axis=1).sum(axis=1) / (centred**2).sum()
    return Ageing(str(rows["grade"].iloc[0]), metric, by_day, entropy, lost)
