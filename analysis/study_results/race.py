"""The race: variants on one ladder, compared run by run with a reference, and by the law of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.budget import frontier
from analysis.gain import ComputeGains, VariantLaw, compute_gains
from analysis.table import require_columns
from scaling.errors import UserError

__all__ = ["CellDifference", "Contest", "Race", "run_race"]


# A floor of the metric that the log's truth gives: the column, by metric.
_FLOORS = {"soft_logloss": "bayes_logloss", "logloss": "bayes_logloss"}
_PAIR = ("data_fingerprint", "grade", "n_samples", "seed")


@dataclass(frozen=True)
class CellDifference:
    """A variant minus the reference in one cell, positive if the metric is larger.

    Attributes:
        grade: of both.
        n_samples: of both.
        n_pairs: runs of one seed.
        difference: mean over the pairs, with the ends of an interval that holds for all cells of all variants at once.
    """

    grade: str
    n_samples: int
    n_pairs: int
    difference: tuple[float, float, float]


@dataclass(frozen=True)
class Contest:
    """A variant against the reference, in pairs of runs of the same grade, data size and seed.

    The seeds' scatter of the difference is pooled over the cells of the variant.

    Attributes:
        variant: its name.
        cells: by grade and data size.
        mean: difference over the cells, each counted once, with its interval at the level of the race.
        p_value: of no mean difference, corrected for the number of variants (Holm); NaN if nothing measures the scatter.
        n_better, n_worse: cells whose interval leaves zero out.
    """

    variant: str
    cells: tuple[CellDifference, ...]
    mean: tuple[float, float, float]
    p_value: float
    n_better: int
    n_worse: int


@dataclass(frozen=True)
class Race:
    """Variants compared with a reference.

    Attributes:
        reference: its name.
        metric: that is compared.
        laws: of all variants, the reference first.
        left_out: variants whose law cannot be compared, and why.
        gains: of the others; None if the reference's law or all others cannot be compared.
        reaches: by variant and budget, how many times the best split lies beyond the largest model or data size of the
            variant's runs; 1 inside.
        contests: one for each variant but the reference.
        floor: the metric of the log's truth; None if it is not known.
        level: of the intervals.
    """

    reference: str
    metric: str
    laws: tuple[VariantLaw, ...]
    left_out: dict[str, str]
    gains: ComputeGains | None
    reaches: dict[tuple[str, float], float]
    contests: tuple[Contest, ...]
    floor: float | None
    level: float


def run_race(
    laws: Sequence[VariantLaw],
    tables: Mapping[str, pd.DataFrame],
    reference: str,
    *,
    budgets: Sequence[float] = (),
    multiples: Sequence[float] = (),
    level: float = 0.95,
) -> Race:
    """Compare variants with a reference.

    Args:
        laws: one for each variant, of one metric on one test part.
        tables: all runs of each variant.
        reference: name of one of them.
        budgets: of the reference, in the unit of the laws; default: those of `analysis.gain.compute_gains`.
        multiples: further budgets, as multiples of the largest one that the runs of all variants cover.
        level: of the intervals.

    Raises:
        UserError: there are no pairs of runs.
    """
    first = next(law for law in laws if law.name == reference)
    ordered = (first, *(law for law in laws if law.name != reference))
    metric, rising = first.fit.y, first.fit.law.rising
    left_out: dict[str, str] = {}
    for law in ordered[1:]:
        try:
            compute_gains([first, law], reference, budgets, multiples=multiples, level=level)
        except UserError as error:
            left_out[law.name] = str(error).removeprefix(f"variant {law.name}: ")
    others = [law for law in ordered[1:] if law.name not in left_out]
    gains = None
    if others:
        try:
            gains = compute_gains(
                [first, *others], reference, budgets, multiples=multiples, level=level
            )
        except UserError as error:  # e.g. no budget is covered by all
            left_out |= {law.name: str(error) for law in others}
    contests = _contests(
        tables, reference, [law.name for law in ordered[1:]], metric, level=level, rising=rising
    )
    reaches = _reaches([first, *others], gains) if gains else {}
    floor = _floor(tables, metric)
    return Race(reference, metric, ordered, left_out, gains, reaches, contests, floor, level)


def _reaches(laws: Sequence[VariantLaw], gains: ComputeGains) -> dict[tuple[str, float], float]:
    budgets = sorted({gain.budget for gain in gains.gains})
    return {
        (law.name, point.budget): max(1.0, point.reach)
        for law in laws
        if law.cost
        for point in frontier(law.fit, law.cost, budgets)
    }


def _contests(
    tables: Mapping[str, pd.DataFrame],
    reference: str,
    names: Sequence[str],
    metric: str,
    *,
    level: float,
    rising: bool,
) -> tuple[Contest, ...]:
    pairs = {name: _pairs(tables[name], tables[reference], metric) for name in names}
    n_all = sum(len(one) for one in pairs.values())
    found = [_contest(name, cells, level, n_all, rising=rising) for name, cells in pairs.items()]
    adjusted = _holm([p for _, p in found])
    return tuple(
        Contest(**{**vars(one), "p_value": p}) for (one, _), p in zip(found, adjusted, strict=True)
    )


def _pairs(
    ours: pd.DataFrame, theirs: pd.DataFrame, metric: str
) -> dict[tuple[str, int], np.ndarray]:
    """The differences of each cell's pairs, by grade and data size.

    Raises:
        UserError: a column is missing, or there is no pair.
    """
    keys = [name for name in _PAIR if name in ours.columns and name in theirs.columns]
    require_columns(ours, ["n_samples", metric])
    if "seed" not in keys or "grade" not in keys:
        raise UserError("a race needs the columns grade and seed: they say which runs are a pair")
    both = ours[[*keys, metric]].merge(theirs[[*keys, metric]], on=keys, suffixes=("", "_base"))
    if both.empty:
        raise UserError("no run has the grade, the data size and the seed of one of the reference")
    both["_difference"] = both[metric] - both[f"{metric}_base"]
    return {
        (str(grade), int(str(size))): part["_difference"].to_numpy(float)
        for (grade, size), part in both.groupby(["grade", "n_samples"])
    }


def _contest(
    name: str,
    cells: Mapping[tuple[str, int], np.ndarray],
    level: float,
    n_all: int,
    *,
    rising: bool,
) -> tuple[Contest, float]:
    dof = sum(len(values) - 1 for values in cells.values())
    square = sum(float(((values - values.mean()) ** 2).sum()) for values in cells.values())
    sd = np.sqrt(square / dof) if dof else np.nan
    single = stats.t.ppf((1 + level) / 2, dof) if dof else np.nan
    at_once = stats.t.ppf(1 - (1 - level) / 2 / n_all, dof) if dof else np.nan
    differences = []
    for (grade, size), values in sorted(cells.items(), key=lambda item: (item[0][0], item[0][1])):
        mean, half = float(values.mean()), float(at_once * sd / np.sqrt(len(values)))
        ends = mean, mean - half, mean + half
        differences.append(CellDifference(grade, size, len(values), ends))
    mean = float(np.mean([one.difference[0] for one in differences]))
    error = sd * np.sqrt(sum(1 / one.n_pairs for one in differences)) / len(differences)
    p_value = float(2 * stats.t.sf(abs(mean) / error, dof)) if dof and error > 0 else float("nan")
    above = sum(one.difference[1] > 0 for one in differences)
    below = sum(one.difference[2] < 0 for one in differences)
    better, worse = (above, below) if rising else (below, above)
    half = float(single * error)
    contest = Contest(
        name, tuple(differences), (mean, mean - half, mean + half), p_value, better, worse
    )
    return contest, p_value


def _holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction; NaN stays and does not count."""
    known = [i for i, p in enumerate(p_values) if p == p]
    order = sorted(known, key=lambda i: p_values[i])
    adjusted = list(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(known) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def _floor(tables: Mapping[str, pd.DataFrame], metric: str) -> float | None:
    column = _FLOORS.get(metric)
    known = [table[column] for table in tables.values() if column in table.columns]
    values = pd.concat(known).dropna() if known else pd.Series(dtype=float)
    # several test parts have several floors
    return float(values.mean()) if len(values) and np.ptp(values) < 1e-9 else None
