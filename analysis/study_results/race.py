"""The race: variants on one ladder, compared run by run with a reference, and by the law of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from analysis.budget import frontier, read_cost
from analysis.gain import ComputeGains, GainAt, VariantLaw, check_comparable, compute_gains
from analysis.study_results.pairing import LostPair, pair_runs
from analysis.study_results.study_fits import StudyFits
from scaling.errors import UserError

__all__ = [
    "COMPUTED_FLOPS",
    "CellDifference",
    "Contest",
    "Race",
    "has_computed_flops",
    "race_of_studies",
    "run_race",
]


# A floor of the metric that the log's truth gives: the column, by metric.
_FLOORS = {"soft_logloss": "bayes_logloss", "logloss": "bayes_logloss"}
_CELL = ["grade", "n_samples"]
# A split that exceeds the runs by less counts as inside.
_INSIDE = 1.05
_SUAN = "model.kind=suan"
# Comparable between kinds of models: those of SUAN in `flops` include tokens that nothing reads.
COMPUTED_FLOPS = "computed_flops"


@dataclass(frozen=True)
class CellDifference:
    """A variant minus the reference in one cell, positive if the metric is larger.

    Attributes:
        grade: of both.
        n_samples: of both.
        n_pairs: runs of one seed.
        difference: mean over the pairs.
    """

    grade: str
    n_samples: int
    n_pairs: int
    difference: float


@dataclass(frozen=True)
class Contest:
    """A variant against the reference, in pairs of runs of the same grade, data size and seed.

    The cells of a seed share the order of its data, so their errors go together: the error of the mean is that between seeds. Few
    seeds tell it badly, so it is taken from all variants together, which are assumed to scatter alike (`_contests`).

    Attributes:
        variant: its name.
        cells: by grade and data size.
        mean: difference over the cells, each counted once, with its interval at the level of the race; NaN ends for one seed.
        p_value: of no mean difference, corrected for the number of variants (Holm); NaN if nothing measures the scatter.
        n_better, n_worse: cells whose mean is better, or worse, than the reference's.
        lost: pairs of which a run is absent or has no metric; they do not count.
    """

    variant: str
    cells: tuple[CellDifference, ...]
    mean: tuple[float, float, float]
    p_value: float
    n_better: int
    n_worse: int
    lost: tuple[LostPair, ...] = ()


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

    @property
    def without_law(self) -> tuple[str, ...]:
        """The variants that have no law to compare; if the reference has none, those whose own law would do are not among them."""
        bad = {law.name for law in self.laws if not _has_law(law)}
        if self.reference not in bad:
            bad |= set(self.left_out)
        return tuple(law.name for law in self.laws if law.name in bad)

    def reach(self, gain: GainAt) -> float | None:
        """How many times the best split of a variant at a budget lies beyond its runs; None inside them."""
        reach = self.reaches.get((gain.variant, gain.budget), 1.0)
        return reach if reach > _INSIDE else None

    def best_at(self, budget: float) -> tuple[GainAt, VariantLaw]:
        """The variant that is most likely the best at one of the budgets of `gains`, and its law."""
        assert self.gains is not None
        best = max((one for one in self.gains.gains if one.budget == budget), key=lambda g: g.best)
        return best, next(law for law in self.laws if law.name == best.variant)


def has_computed_flops(table: pd.DataFrame) -> bool:
    """Whether all runs know the FLOPs that are comparable between kinds of models."""
    return COMPUTED_FLOPS in table.columns and bool(table[COMPUTED_FLOPS].notna().all())


def race_of_studies(studies: Sequence[StudyFits], metric: str) -> Race | None:
    """Compare the variants of a study with one of them, SUAN if it takes part, else that of the most runs.

    Args:
        studies: one for each variant, with laws of model size and data size.
        metric: that is compared.

    Returns:
        None if there is one variant, or if no two have a pair of runs.
    """
    if len(studies) < 2 or not all(study.has_both for study in studies):
        return None
    laws, computed = [], all(has_computed_flops(study.table) for study in studies)
    for study in studies:
        fit, sizes = study.metrics[metric].joint, (study.size.column, study.data.column)
        if "flops" in sizes:
            return None
        rows = study.table
        if computed:
            rows = rows.assign(flops=rows[COMPUTED_FLOPS])
        cost = read_cost(rows, "flops", x=sizes[0], data=sizes[1])
        laws.append(VariantLaw(study.label, fit, rows, cost))
    most = max(laws, key=lambda law: len(law.table))
    reference = next((law for law in laws if _SUAN in law.name), most)
    try:
        return run_race(laws, {law.name: law.table for law in laws}, reference.name)
    except UserError:
        return None


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
        UserError: there are no pairs of runs, or a budget is no positive number.
    """
    first = next(law for law in laws if law.name == reference)
    ordered = (first, *(law for law in laws if law.name != reference))
    metric, rising = first.fit.y, first.fit.law.rising
    left_out: dict[str, str] = {}
    for law in ordered[1:]:
        try:
            check_comparable([first, law], reference)
        except UserError as error:
            left_out[law.name] = str(error).removeprefix(f"variant {law.name}: ")
    comparable = [law for law in ordered if law.name not in left_out]
    gains = None
    if len(comparable) > 1:
        try:
            check_comparable(comparable, reference)
        except UserError as error:  # no budget is covered by all
            left_out |= {law.name: str(error) for law in comparable[1:]}
        else:
            gains = compute_gains(comparable, reference, budgets, multiples=multiples, level=level)
    contests = _contests(
        tables, reference, [law.name for law in ordered[1:]], metric, level=level, rising=rising
    )
    reaches = _reaches(comparable, gains) if gains else {}
    floor = _floor(tables, metric)
    return Race(reference, metric, ordered, left_out, gains, reaches, contests, floor, level)


def _has_law(law: VariantLaw) -> bool:
    """Whether a law can be compared at all: with itself under another name."""
    try:
        check_comparable([law, replace(law, name=f"{law.name}'")], law.name)
    except UserError:
        return False
    return True


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
    """Compare each variant with the reference.

    The runs of a seed share the order of their data, in all cells. So with m a variant, k a seed and y_mk its mean over the cells,
    y_mk = variant m + seed k + r_mk, and the variance V of r is the mean square of an analysis of variance without repeats: its
    degrees of freedom are (variants - 1) (seeds - 1), the reference counted. A difference of two variants has the variance
    2 V sum_k w_k^2, where w_k is the weight of a seed in the mean over the cells; 2 V / seeds if no pair is lost.
    """
    paired = {
        name: pair_runs(tables[name], tables[reference], metric, name, reference) for name in names
    }
    pairs = {name: one.runs for name, one in paired.items()}
    variance, dof = _seed_variance(pairs)
    means, p_values = {}, []
    for name, one in pairs.items():
        mean = float(one.groupby(_CELL)["difference"].mean().mean())
        error = float(np.sqrt(2 * variance * _square_weights(one)))
        half = float(stats.t.ppf((1 + level) / 2, dof) * error) if dof else float("nan")
        means[name] = mean, mean - half, mean + half
        known = dof > 0 and error > 0
        p_values.append(float(2 * stats.t.sf(abs(mean) / error, dof)) if known else float("nan"))
    found = []
    for name, p_value in zip(names, holm(p_values), strict=True):
        cells = tuple(
            CellDifference(str(grade), int(float(str(size))), len(part), float(part.mean()))
            for (grade, size), part in pairs[name].groupby(_CELL)["difference"]
        )
        sign = 1 if rising else -1
        better = sum(sign * cell.difference > 0 for cell in cells)
        worse = sum(sign * cell.difference < 0 for cell in cells)
        found.append(Contest(name, cells, means[name], p_value, better, worse, paired[name].lost))
    return tuple(found)


def _square_weights(pairs: pd.DataFrame) -> float:
    """The sum of the squares of the seeds' weights in the mean over the cells, in which each cell counts once."""
    in_cell = pairs.groupby(_CELL)["difference"].transform("size")
    weights = (1 / in_cell).groupby(pairs["seed"]).sum() / pairs.groupby(_CELL).ngroups
    return float((weights**2).sum())


def _seed_variance(pairs: Mapping[str, pd.DataFrame]) -> tuple[float, int]:
    """The variance between seeds of a variant's mean over the cells, beside what all variants share; its degrees of freedom.

    From cells of which no pair is lost: a cell that one seed lacks would look like a difference between seeds.
    """
    grids = {
        name: one.pivot_table(index=_CELL, columns="seed", values="difference")
        for name, one in pairs.items()
        if len(one["seed"].unique()) > 1
    }
    counts = sum((grid.notna().sum() for grid in grids.values()), pd.Series(dtype=float))
    by_pairs = list(counts.sort_values(ascending=False, kind="stable").index) if grids else []
    for n_seeds in range(len(by_pairs), 1, -1):
        seeds = by_pairs[:n_seeds]
        whole = [grid.reindex(columns=seeds).dropna() for grid in grids.values()]
        cells = [row for row in whole[0].index if all(row in grid.index for grid in whole[1:])]
        if cells:
            # the reference's differences to itself come first
            means = np.array([np.zeros(n_seeds), *(grid.loc[cells].mean() for grid in whole)])
            rest = means - means.mean(1, keepdims=True) - means.mean(0) + means.mean()
            dof = (len(means) - 1) * (n_seeds - 1)
            return float((rest**2).sum()) / dof, dof
    return 0.0, 0


def holm(p_values: Sequence[float]) -> list[float]:
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
