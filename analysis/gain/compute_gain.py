"""Compute-equivalent gain: the share of a reference's budget with which another variant reaches the reference's metric.

For a budget C, the share r solves L(r C) = L_ref(C) (`analysis.gain.crossings`). Errors that both fits have in common
cancel (`analysis.fit.paired_errors`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from analysis.budget import check_terms, frontier
from analysis.fit import FittedRows, common_errors
from analysis.gain.best_probability import probabilities
from analysis.gain.crossings import BEYOND, Crossing, Ends, Pair, times_beyond
from analysis.gain.variant_law import VariantLaw
from scaling.errors import UserError, nearest

__all__ = ["ComputeGains", "GainAt", "check_comparable", "compute_gains"]


@dataclass(frozen=True)
class GainAt:
    """A variant at one budget of the reference.

    Attributes:
        variant: its name.
        budget: of the reference.
        metric: of the variant's law at this budget.
        share: of the budget with which the variant reaches the reference's metric, with the ends of its interval;
            below 1, the variant needs less. Infinite if it does not (or may not) reach it at any budget.
        better: probability that the variant is better than the reference at this budget; NaN for the reference.
        best: probability that it is the best of all variants.
        beyond: how many times the budget lies outside the range that the runs of all variants cover; 1 inside.
    """

    variant: str
    budget: float
    metric: float
    share: Ends
    better: float
    best: float
    beyond: float


@dataclass(frozen=True)
class ComputeGains:
    """Variants compared with a reference along the budget.

    Attributes:
        reference: its name.
        range: smallest and largest budget that the runs of all variants cover.
        gains: one for each variant and budget, ordered by budget.
        crossings: up to ten times beyond the runs.
        correlations: of the residuals of pairs of runs with the reference, by variant; NaN if runs are not paired.
        level: of the intervals.
    """

    reference: str
    range: tuple[float, float]
    gains: tuple[GainAt, ...]
    crossings: tuple[Crossing, ...]
    correlations: dict[str, float]
    level: float


def compute_gains(
    laws: Sequence[VariantLaw],
    reference: str,
    budgets: Sequence[float] | None = None,
    *,
    multiples: Sequence[float] = (),
    level: float = 0.95,
) -> ComputeGains:
    """Compare each variant's law of the budget with the reference's.

    Args:
        laws: two or more, of one metric on one test part.
        reference: name of one of them.
        budgets: of the reference; default: five over the range that the runs of all variants cover and one ten times
            beyond it, unless `multiples` are given.
        multiples: further budgets, as multiples of the largest one that the runs of all variants cover.
        level: of the intervals.

    Raises:
        UserError: fewer than two variants, an unknown reference, laws that cannot be compared (metric, data, unit of
            the budget), a law that did not converge, whose term vanished or that has no best split, ranges of budgets
            that do not overlap, or a budget that is no positive number.
    """
    check_comparable(laws, reference)
    first = next(law for law in laws if law.name == reference)
    ordered = [first, *(law for law in laws if law.name != reference)]
    common = _common_range(laws)
    wanted = [*(budgets or ()), *(common[1] * multiple for multiple in multiples)]
    wanted = sorted(set(wanted)) or [*np.geomspace(*common, 5), BEYOND * common[1]]
    for budget in wanted:
        if not 0 < budget < np.inf:
            raise UserError(f"the budget is {budget:g}, expected a finite positive number")
    rows = [FittedRows.of(law.fit, law.table) for law in ordered]
    paired = {
        (i, j): common_errors(rows[i], rows[j]) for i, j in combinations(range(len(ordered)), 2)
    }
    logs = np.log(wanted)
    shares = [np.ones((len(logs), 3))]
    crossings: list[Crossing] = []
    for j, law in enumerate(ordered[1:], 1):
        pair = Pair(first, law, paired[0, j], level)
        shares.append(pair.shares(logs))
        crossings += pair.crossings(common)
    better, best = probabilities(ordered, paired, logs)
    gains = tuple(
        GainAt(
            law.name,
            float(budget),
            float(law.at(logs[k : k + 1])[0][0]),
            (float(shares[j][k, 0]), float(shares[j][k, 1]), float(shares[j][k, 2])),
            float(better[j, k]),
            float(best[j, k]),
            times_beyond(float(budget), common),
        )
        for k, budget in enumerate(wanted)
        for j, law in enumerate(ordered)
    )
    found = {law.name: paired[0, j].correlation for j, law in enumerate(ordered[1:], 1)}
    return ComputeGains(reference, common, gains, tuple(crossings), found, level)


def check_comparable(laws: Sequence[VariantLaw], reference: str) -> None:
    """Check that laws can be compared along the budget.

    Raises:
        UserError: see `compute_gains`, but for what it says of budgets.
    """
    names = [law.name for law in laws]
    if len(set(names)) < 2:
        raise UserError(f"a gain needs two variants, there is only {', '.join(names) or 'none'}")
    if reference not in names:
        raise UserError(f"no variant {reference}{nearest(reference, names)}")
    first = laws[0].fit
    for law in laws:
        fit, what = law.fit, f"variant {law.name}"
        if not fit.has_curve or fit.status == "not_converged":
            raise UserError(f"{what}: no law to compare: {fit.message}")
        if not fit.noise.dof:
            raise UserError(f"{what}: nothing measures the noise, so no gain has an interval")
        joint = fit.law.variables == ("N", "D") and law.cost is not None
        single = len(fit.law.variables) == 1 and law.cost is None
        single = single and not (fit.law.of_metric or fit.law.in_logs)
        if not (joint or single):
            raise UserError(
                f"law {fit.law.name}: expected a law of model size and data size with the cost of a run, or of one size"
            )
        if fit.y != first.y or fit.law.rising != first.law.rising:
            raise UserError(f"{what}: a law of {fit.y}, but {laws[0].name}'s is one of {first.y}")
        if law.unit != laws[0].unit:
            raise UserError(
                f"{what}: a budget in {law.unit}, but {laws[0].name}'s is in {laws[0].unit}"
            )
        try:
            check_terms(fit, "compute-equivalent gain")
            if law.cost:
                frontier(fit, law.cost, [law.range[1]])
        except UserError as error:
            raise UserError(f"{what}: {error}") from None
    prints = [set(law.table["data_fingerprint"]) for law in laws if "data_fingerprint" in law.table]
    if len(set.union(set(), *prints)) > 1:
        raise UserError(
            "the variants were trained on different data, so their metrics cannot be compared"
        )
    _common_range(laws)


def _common_range(laws: Sequence[VariantLaw]) -> tuple[float, float]:
    ranges = {law.name: law.range for law in laws}
    low, high = max(r[0] for r in ranges.values()), min(r[1] for r in ranges.values())
    if low >= high:
        texts = ", ".join(f"{name} {a:.3g} to {b:.3g}" for name, (a, b) in ranges.items())
        raise UserError(f"no budget is covered by the runs of all variants: {texts}")
    return low, high
