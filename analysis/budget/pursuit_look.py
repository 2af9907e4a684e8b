"""What a pursuit knows when it looks at its runs: the fit, the goal's interval, and the level that a look has.

A rule that ends when an interval is narrow looks at the data more than once, so its intervals are too short
if each has the level of a single look. Here only declared looks count: the round before says whether the
pursuit may end at the next look, and spends a part of the error rate on it (Lan & DeMets 1983). By the
union bound the interval at the end misses the truth with at most the whole error rate, whatever the rule.
"""

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from analysis.budget.further_cells import Precision, linearise
from analysis.fit import FitOptions, LawFit, fit_law
from analysis.laws import build_law
from analysis.table import default_metrics, rises
from scaling.records import PursuitRound
from scaling.study import GoalConfig

__all__ = ["USUAL_LEVEL", "Evidence", "Look", "declared", "goal_text"]


_ERROR_RATE = 0.05
USUAL_LEVEL = 1 - _ERROR_RATE
# A look takes this share of the error rate that is left; the last one, after which nothing can be bought, more.
# Something always stays, so that a pursuit can go on with a larger budget.
_SHARE, _LAST_SHARE = 0.5, 0.8


@dataclass(frozen=True)
class Look:
    """The runs so far: the fit and its interval at the look's level; `reason` if there is no interval."""

    level: float
    claims: bool
    fit: LawFit | None
    precision: Precision | None
    estimate: float
    lower: float
    upper: float
    reason: str

    @property
    def width(self) -> float:
        """Width of the interval; infinite if a side is open."""
        return self.upper - self.lower

    def reaches(self, width: float) -> bool:
        """Whether the pursuit may end here with an interval of this width.

        A fit that ended at a bound has a short interval around a wrong value, so it never does.
        """
        usable = self.fit is not None and self.fit.status in ("converged", "not_identified")
        return self.claims and usable and self.width <= width


@dataclass(frozen=True)
class Evidence:
    """What there is to look at: the goal (`at` in numbers), the finished runs, the rounds, the cost so far, the units left."""

    goal: GoalConfig
    at: tuple[float, float] | None
    table: pd.DataFrame
    before: Sequence[PursuitRound]
    spent: float
    n_left: int

    @property
    def metric(self) -> str:
        """The column that is fitted; empty as long as no run tells."""
        return self.goal.metric or (default_metrics(self.table)[0] if len(self.table) else "")

    def look(self, level: float, claims: bool) -> Look:
        """Fit the law and read the goal's interval at a level."""
        goal, table, nan = self.goal, self.table, float("nan")
        none = Look(level, claims, None, None, nan, -math.inf, math.inf, "no run is finished yet")
        if not len(table):
            return replace(none, claims=False)
        metric = self.metric
        options = FitOptions(fixed=goal.fixed, level=level)
        up = rises(metric) if goal.rising is None else goal.rising
        law = build_law(goal.law, rising=up)
        fit = fit_law(law, table, y=metric, options=options)
        if not fit.has_curve or not fit.noise.dof:
            reason = f"no interval yet: {fit.message}"
            return replace(none, fit=fit if fit.has_curve else None, reason=reason)
        if goal.quantity is None:
            band = fit.band(*(self.at or ()))
            ends = float(band.mean), float(band.lower), float(band.upper)
            return Look(level, claims, fit, linearise(fit, "loss", self.at), *ends, reason="")
        if math.isnan(fit.params[goal.quantity]):
            return replace(none, fit=fit, reason=f"no interval yet: {fit.message}")
        interval = fit.intervals.get(goal.quantity)
        lower = -math.inf if interval is None or interval.open_lower else interval.lower
        upper = math.inf if interval is None or interval.open_upper else interval.upper
        ends = fit.params[goal.quantity], lower, upper
        return Look(level, claims, fit, linearise(fit, goal.quantity), *ends, reason="")

    def next_level(self, look: Look, *, last: bool) -> float:
        """The level of a next look that counts."""
        taken = sum(1 - one.level for one in self.before if one.claims)
        left = max(_ERROR_RATE - taken - (1 - look.level if look.claims else 0.0), 0.0)
        return 1 - (_LAST_SHARE if last else _SHARE) * left

    def seen(self, look: Look) -> PursuitRound:
        """The round with what was seen, so far without cells."""
        goal = self.goal
        return PursuitRound(
            number=len(self.before) + 1,
            time=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            kind="end",
            quantity=goal_text(goal, self.at, self.metric),
            goal_width=goal.width,
            status=look.fit.status if look.fit is not None else "no fit",
            n_runs=len(self.table),
            estimate=_finite(look.estimate),
            lower=_finite(look.lower),
            upper=_finite(look.upper),
            level=look.level,
            claims=look.claims,
            cells=(),
            labels=(),
            expected_width=None,
            cost=0.0,
            spent=self.spent,
            budget=goal.budget,
            unit=goal.unit,
            next_claims=True,
            next_level=self.next_level(look, last=False),
            is_reached=False,
            reason="",
            metric=self.metric,
            n_left=self.n_left,
        )

    def reached_text(self, look: Look) -> str:
        """That the goal is reached, and whether the runs follow the law at all."""
        notes = [note for note in (look.fit.notes if look.fit else ()) if "lack of fit" in note]
        warning = f"; but the runs do not follow the law: {notes[0]}" if notes else ""
        return f"the width wanted, {self.goal.width:g}, is reached{warning}"

    def end(self, look: Look, why: str) -> PursuitRound:
        """The last round. If its look was not declared, the interval gets the level that a last look would have had."""
        if look.fit is not None and look.fit.status == "at_bound":
            why = f"a fit at a bound cannot reach the goal ({look.fit.message}); {why}"
        if look.precision is not None and not look.claims:
            look = self.look(self.next_level(look, last=True), True)
            if look.reaches(self.goal.width):
                return replace(self.seen(look), is_reached=True, reason=self.reached_text(look))
        return replace(self.seen(look), reason=why)


def goal_text(goal: GoalConfig, at: tuple[float, float] | None, metric: str | None) -> str:
    """What is measured, for people; two goals with the same text share their looks.

    Args:
        goal: the goal.
        at: n_params and n_samples of its metric; None for a parameter.
        metric: the column that is fitted; "" if it is not known yet; None: the text of earlier versions, which said
            nothing of a parameter's metric, and "logloss" of a metric by default.
    """
    if goal.quantity is not None:
        what = goal.quantity + (f" of {metric}" if metric else "")
    else:
        name = (goal.metric or "logloss") if metric is None else metric or "metric"
        what = "{} at {:,.0f}, {:,.0f}".format(name, *(at or ()))
    held = "".join(f", {name} = {value:g}" for name, value in goal.fixed.items())
    return f"{what} ({goal.law}{held})"


def declared(before: Sequence[PursuitRound], table: pd.DataFrame) -> tuple[float, bool]:
    """The level of this look, and whether the pursuit may end here; both were declared before it."""
    if before:
        return before[-1].next_level, before[-1].next_claims
    # Runs that are there before the first round may be enough, so the first look at them counts.
    return (1 - _SHARE * _ERROR_RATE, True) if len(table) else (USUAL_LEVEL, False)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
