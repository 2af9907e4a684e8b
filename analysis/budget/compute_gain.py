"""Compute-equivalent gain: the share of a reference's budget with which another variant reaches the reference's metric.

A variant's law of the budget is a fitted law of one size, or that of N and D at the best split of each budget. For a
budget C, the share r solves L(r C) = L_ref(C); its interval is the set of shares at which both sides do not differ
significantly (Fieller 1954), so that it stays right if the variant's limit is near and has an open end if the variant may
never reach the reference. Errors that both fits have in common cancel (`analysis.fit.paired_errors`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import special

from analysis.budget.best_split import check_terms, frontier
from analysis.budget.cost import Cost
from analysis.fit import FittedRows, LawFit, PairedErrors, common_errors
from analysis.uncertainty import combined
from scaling.arrays import BoolArray, FloatArray
from scaling.errors import UserError, nearest

__all__ = ["ComputeGains", "Crossing", "GainAt", "VariantLaw", "compute_gains"]


# Beyond the runs, by this factor, budgets are still answered by default and crossings searched.
_BEYOND = 10.0
# Shares and ends of crossings are searched within exp(+-30) times the budget; ends in growing steps.
_SCAN = 30.0
_STEP, _GROWTH, _STEPS = 0.05, 1.2, 32
_CROSSING_STEPS, _BISECTIONS = 240, 30
# Range and steps of the best split's search, in logs of the model size beyond the fitted ones.
_REACH, _GRID, _ROUNDS = 25.0, 121, 5
_DRAWS = 20_000

Ends = tuple[float, float, float]
# Places (m,) -> how much better the variant is there (m,), and this in half widths of its interval.
_Score = Callable[[FloatArray], tuple[FloatArray, FloatArray]]


@dataclass(frozen=True)
class VariantLaw:
    """A law of one variant.

    Attributes:
        name: of the variant.
        fit: of a law of N and D, or of one size, which then is the budget.
        table: the rows that were fitted.
        cost: of a run, for a law of N and D; else None.
    """

    name: str
    fit: LawFit
    table: pd.DataFrame
    cost: Cost | None = None

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest budget of its runs."""
        sizes = self.fit.cell_sizes
        budgets = self.cost(sizes[:, 0], sizes[:, 1]) if self.cost else sizes[:, 0]
        return float(budgets.min()), float(budgets.max())

    def at(self, log_budgets: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The law (m,) and its derivatives by theta (m, p) at logs of budgets (m,)."""
        fit, law = self.fit, self.fit.law
        logs = [log_budgets - fit.origin[0]]
        if self.cost:
            size, samples = self._split(log_budgets)
            logs = [size - fit.origin[0], samples - fit.origin[1]]
        # The split's own derivative does not matter: at the optimum, the law is flat along it (envelope theorem).
        with np.errstate(over="ignore", invalid="ignore"):
            return law.evaluate(logs, fit.theta[None])[0], law.jacobian(logs, fit.theta)

    def _split(self, log_budgets: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Logs of the best model size and data size (m,); a grid that narrows around the minimum."""
        fit, cost = self.fit, self.cost
        assert cost is not None
        total = log_budgets - np.log(cost.factor)
        low, high = np.log(fit.spans["N"][0]) - _REACH, np.log(fit.spans["N"][1]) + _REACH
        offsets = np.linspace(-0.5, 0.5, _GRID) * (high - low)
        best = np.full(len(log_budgets), (low + high) / 2)
        for _ in range(_ROUNDS):
            size = best[:, None] + offsets
            logs = [size - fit.origin[0], total[:, None] - cost.power * size - fit.origin[1]]
            with np.errstate(over="ignore", invalid="ignore"):
                value = fit.law.evaluate([log.ravel() for log in logs], fit.theta[None])[0]
            # NaN where powers overflow, far from any best split
            worth = np.nan_to_num(fit.law.sign * value.reshape(size.shape), nan=np.inf)
            least = np.argmin(worth, axis=1)
            best = size[np.arange(len(best)), least]
            offsets = np.linspace(-1, 1, 17) * (offsets[1] - offsets[0])
        return best, total - cost.power * best


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
class Crossing:
    """A budget at which a variant is as good as the reference.

    Attributes:
        variant: its name.
        budget: with the ends of the interval in which the two do not differ significantly; 0 and infinity are open ends.
        better_above: whether the variant is better at larger budgets.
        beyond: as in `GainAt`.
    """

    variant: str
    budget: Ends
    better_above: bool
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
    _check(laws, reference)
    first = next(law for law in laws if law.name == reference)
    ordered = [first, *(law for law in laws if law.name != reference)]
    common = _common_range(laws)
    wanted = [*(budgets or ()), *(common[1] * multiple for multiple in multiples)]
    wanted = sorted(set(wanted)) or [*np.geomspace(*common, 5), _BEYOND * common[1]]
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
        pair = _Pair(first, law, paired[0, j], level)
        shares.append(pair.shares(logs))
        crossings += pair.crossings(common)
    better, best = _probabilities(ordered, paired, logs)
    gains = tuple(
        GainAt(
            law.name,
            float(budget),
            float(law.at(logs[k : k + 1])[0][0]),
            (float(shares[j][k, 0]), float(shares[j][k, 1]), float(shares[j][k, 2])),
            float(better[j, k]),
            float(best[j, k]),
            _beyond(float(budget), common),
        )
        for k, budget in enumerate(wanted)
        for j, law in enumerate(ordered)
    )
    found = {law.name: paired[0, j].correlation for j, law in enumerate(ordered[1:], 1)}
    return ComputeGains(reference, common, gains, tuple(crossings), found, level)


def _check(laws: Sequence[VariantLaw], reference: str) -> None:
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
        if _unit(law) != _unit(laws[0]):
            raise UserError(
                f"{what}: a budget in {_unit(law)}, but {laws[0].name}'s is in {_unit(laws[0])}"
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


def _unit(law: VariantLaw) -> str:
    return law.cost.unit if law.cost else next(iter(law.fit.columns.values()))


def _common_range(laws: Sequence[VariantLaw]) -> tuple[float, float]:
    ranges = {law.name: law.range for law in laws}
    low, high = max(r[0] for r in ranges.values()), min(r[1] for r in ranges.values())
    if low >= high:
        texts = ", ".join(f"{name} {a:.3g} to {b:.3g}" for name, (a, b) in ranges.items())
        raise UserError(f"no budget is covered by the runs of all variants: {texts}")
    return low, high


def _beyond(budget: float, common: tuple[float, float]) -> float:
    return max(common[0] / budget, budget / common[1], 1.0)


@dataclass(frozen=True)
class _Pair:
    """A reference and a variant."""

    reference: VariantLaw
    variant: VariantLaw
    paired: PairedErrors
    level: float

    def shares(self, logs: FloatArray) -> FloatArray:
        """The share of each budget (m,) and the ends of its interval, (m, 3)."""
        theirs = self.reference.at(logs)

        def score(offset: FloatArray) -> tuple[FloatArray, FloatArray]:
            return self._score(theirs, self.variant.at(logs + offset))

        offsets = np.arange(-_SCAN, _SCAN + 1.0)
        better = np.column_stack([score(np.full(len(logs), o))[0] > 0 for o in offsets])
        k = np.clip(np.argmax(better, axis=1), 1, None)
        found = _bisect(offsets[k - 1], offsets[k], lambda o: score(o)[0] > 0)
        found = np.where(better.any(axis=1), np.where(better[:, 0], -np.inf, found), np.inf)
        ends = [_until_differs(score, found, step) for step in (-_STEP, _STEP)]
        return np.exp(np.column_stack([found, *ends]))

    def crossings(self, common: tuple[float, float]) -> list[Crossing]:
        """Budgets at which both are equally good, from the smallest of the runs to ten times the largest."""

        def score(log: FloatArray) -> tuple[FloatArray, FloatArray]:
            return self._score(self.reference.at(log), self.variant.at(log))

        logs = np.linspace(np.log(common[0]), np.log(_BEYOND * common[1]), _CROSSING_STEPS)
        better = score(logs)[0] > 0
        found = []
        for k in np.flatnonzero(better[1:] != better[:-1]):
            rises = bool(better[k + 1])
            at = _bisect(logs[k : k + 1], logs[k + 1 : k + 2], _is(score, rises))
            low, high = (float(np.exp(_until_differs(score, at, s))[0]) for s in (-_STEP, _STEP))
            budget = float(np.exp(at[0]))
            beyond = _beyond(budget, common)
            found.append(Crossing(self.variant.name, (budget, low, high), rises, beyond))
        return found

    def _score(
        self, before: tuple[FloatArray, FloatArray], after: tuple[FloatArray, FloatArray]
    ) -> tuple[FloatArray, FloatArray]:
        """How much better the variant is (m,), and this in half widths of its interval; NaN (far out) counts as 0."""
        difference = self.reference.fit.law.sign * (before[0] - after[0])
        variance, dof = self.paired.difference(before[1], after[1])
        half = np.sqrt(variance) * special.stdtrit(dof, 0.5 + self.level / 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            return difference, np.nan_to_num(difference / half, nan=0.0)


def _probabilities(
    laws: Sequence[VariantLaw], paired: Mapping[tuple[int, int], PairedErrors], logs: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The probability that each law is better than the first, and that it is the best of all, (laws, m) each."""
    values = [law.at(logs) for law in laws]
    n, sign = len(laws), laws[0].fit.law.sign
    better = np.full((n, len(logs)), np.nan)
    spread = np.zeros((len(logs), n, n))
    fewest = np.full(len(logs), np.inf)
    for j, law in enumerate(laws):
        spread[:, j, j], dof = combined(law.fit.parts, values[j][1])
        fewest = np.minimum(fewest, dof)
    for (i, j), pair in paired.items():
        spread[:, i, j] = spread[:, j, i] = pair.covariance(values[i][1], values[j][1])
        if i == 0:
            ahead = sign * (values[0][0] - values[j][0])
            variance, dof = pair.difference(values[0][1], values[j][1])
            with np.errstate(divide="ignore", invalid="ignore"):
                better[j] = special.stdtr(dof, np.nan_to_num(ahead / np.sqrt(variance), nan=0.0))
    if n == 2:
        return better, np.array([1 - better[1], better[1]])
    rng = np.random.default_rng(0)
    best = np.zeros((n, len(logs)))
    for k in range(len(logs)):
        scales, vectors = np.linalg.eigh(spread[k])
        normal = rng.standard_normal((_DRAWS, n)) * np.sqrt(np.maximum(scales, 0.0)) @ vectors.T
        wide = np.sqrt(fewest[k] / rng.chisquare(fewest[k], _DRAWS))[:, None]
        drawn = sign * (np.array([value[0][k] for value in values]) + normal * wide)
        best[:, k] = np.bincount(np.argmin(drawn, axis=1), minlength=n) / _DRAWS
    return better, best


def _until_differs(score: _Score, start: FloatArray, step: float) -> FloatArray:
    """From each start (m,), the nearest place in the direction of `step` at which both differ significantly.

    Far from the runs they may cease to differ, as the derivatives that the variance rests on no longer say much.
    """
    low = high = np.where(np.isinf(start), np.clip(start, -_SCAN, _SCAN), start)
    apart = np.zeros(len(start), dtype=bool)
    for _ in range(_STEPS):
        low, step = np.where(apart, low, high), step * _GROWTH
        high = np.where(apart, high, high + step)
        apart |= np.abs(score(high)[1]) > 1
        if apart.all():
            break
    found = _bisect(low, high, lambda place: np.abs(score(place)[1]) > 1)
    open_end = ~apart | (np.isinf(start) & (np.sign(start) == np.sign(step)))
    return np.where(open_end, np.inf * step, found)


def _is(score: _Score, better: bool) -> Callable[[FloatArray], BoolArray]:
    return lambda place: (score(place)[0] > 0) == better


def _bisect(
    low: FloatArray, high: FloatArray, holds: Callable[[FloatArray], BoolArray]
) -> FloatArray:
    """The places (m,) between `low`, where a condition does not hold, and `high` where it begins to hold."""
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        holding = holds(middle)
        low, high = np.where(holding, low, middle), np.where(holding, middle, high)
    return np.asarray((low + high) / 2)
