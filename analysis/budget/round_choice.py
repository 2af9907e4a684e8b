"""One round of a pursuit: look at the runs so far, end or choose the cells that narrow the goal most per cost.

Which looks may end a pursuit, and at which level, is in `analysis.budget.pursuit_look`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import special

from analysis.budget.first_cells import first_cells
from analysis.budget.further_cells import Precision
from analysis.budget.pursuit_look import USUAL_LEVEL, Evidence, Look, declared
from analysis.laws import build_law
from analysis.table import direction
from scaling.arrays import FloatArray
from scaling.errors import SettingError, nearest
from scaling.records import PursuitRound
from scaling.study import GoalConfig

__all__ = ["PursuitUnit", "check_goal", "next_round"]


# The next look is declared as a possible end if its interval is expected to be at most this wide, relative to the goal.
_NEAR = 1.1
# The cells that the budget can buy are of no help if all together narrow the interval by less than this share.
_LEAST_GAIN = 0.01
# An expected width is a linearised one; choose cells until it is below the goal by this factor.
_MARGIN = 0.97


@dataclass(frozen=True)
class PursuitUnit:
    """Cells that one process trains together, and what they still cost.

    Attributes:
        signatures, labels: of the cells.
        sizes: n_params and n_samples of each.
        cost: in the goal's unit, with a reserve if it is an estimate.
        least_cost: without the reserve; None: `cost` is exact.
    """

    signatures: tuple[str, ...]
    labels: tuple[str, ...]
    sizes: tuple[tuple[float, float], ...]
    cost: float
    least_cost: float | None = None


def check_goal(goal: GoalConfig) -> None:
    """Check that the law has the goal's quantity and fixed parameters, and that the metric's name is that of one.

    Raises:
        SettingError: it has not, or it is not.
    """
    if goal.metric is not None and goal.rising is None and direction(goal.metric) is None:
        raise SettingError(
            "goal.metric",
            f"{goal.metric} is no metric of a run, e.g. logloss, or its name does not say whether larger is better: give "
            "goal.rising, or --rising or --falling",
        )
    law = build_law(goal.law)
    for name in goal.fixed:
        if name not in law.names:
            raise SettingError(
                f"goal.fixed.{name}",
                f"law {goal.law} has no such parameter{nearest(name, law.names)}",
            )
    free = [n for n in law.names if n not in (*law.amplitudes, *law.fixed, *goal.fixed)]
    if goal.quantity is not None and goal.quantity not in free:
        raise SettingError(
            "goal.quantity",
            f"law {goal.law} has no free parameter {goal.quantity}{nearest(goal.quantity, free)}",
        )


def next_round(
    goal: GoalConfig,
    at: tuple[float, float] | None,
    table: pd.DataFrame,
    units: Sequence[PursuitUnit],
    before: Sequence[PursuitRound],
    *,
    spent: float,
) -> PursuitRound:
    """Look at the runs and decide what to train next. The same arguments give the same round, but for its time.

    Args:
        goal: what to measure.
        at: n_params and n_samples of the goal's metric; None for a parameter.
        table: one row per finished run; may be empty.
        units: those that are not done and not in flight.
        before: the rounds so far.
        spent: cost of all cells so far, in the goal's unit.

    Raises:
        UserError: the runs cannot be fitted together, or a parameter cannot be held at its value.
    """
    data = Evidence(goal, at, table, before, spent, len(units))
    look = data.look(*declared(before, table))
    if look.reaches(goal.width):
        return replace(data.seen(look), is_reached=True, reason=data.reached_text(look))
    buyable = sorted((u for u in units if u.cost <= goal.budget - spent), key=lambda u: u.cost)
    if not buyable:
        return data.end(look, _why_nothing_left(units, goal, spent))
    if _was_last(goal, before):
        left = f"{goal.budget - spent:.3g} {goal.unit} are left, as cells took less than reserved"
        why = f"this look was declared as the last; {left}; a larger budget goes on"
        return data.end(look, why)
    after = None
    if look.precision is None:
        law = build_law(goal.law)
        n_free = len(law.names) - len({*law.fixed, *goal.fixed})
        sizes = [unit.sizes for unit in buyable]
        wanted = first_cells(_sizes(table), sizes, n_free, more=look.fit is not None)
        chosen = [buyable[k] for k in wanted]
        cost, rest = sum(unit.cost for unit in chosen), goal.budget - spent
        if not chosen or cost > rest:
            dear = f": they cost {cost:.3g}, and {rest:.3g} is left" if chosen else ""
            why = f"{look.reason}; the budget buys no cells that identify the law{dear}"
            return data.end(look, why)
        why = f"{look.reason}; the cheapest cells that identify the law"
    else:
        chosen, after = _choose(data, look, buyable)
        if not chosen:
            why = f"no cell helps: all that the budget buys would narrow the interval by less than {_LEAST_GAIN:.0%}"
            return data.end(look, why)
        why = "these cells narrow the interval most per cost"
    return _with_cells(data, look, buyable, chosen, after, why)


def _width(precision: Precision, level: float) -> float:
    """Width of the linearised interval."""
    return (
        2 * math.sqrt(precision.variance) * float(special.stdtrit(precision.dof, 0.5 + level / 2))
    )


def _choose(
    data: Evidence, look: Look, buyable: Sequence[PursuitUnit]
) -> tuple[list[PursuitUnit], float | None]:
    """Units that narrow the interval most per cost, and the expected width at the next look's level.

    A round costs at most as much as all before it, so that the fit that chooses is renewed while it is rough.
    """
    assert look.precision is not None
    now = look.precision
    runs, costs = _padded(buyable), np.array([unit.cost for unit in buyable])
    if now.after(_flat(runs)).variance > (1 - _LEAST_GAIN) ** 2 * now.variance:
        return [], None
    level = data.next_level(look, last=False)
    # The linearised width is corrected by the measured one, as far as there is one.
    is_measured = (
        math.isfinite(look.width) and look.fit is not None and look.fit.status != "at_bound"
    )
    scale = look.width / _width(now, look.level) if is_measured else 1.0
    room = min(data.goal.budget - data.spent, max(data.spent, float(costs.min())))
    chosen: list[PursuitUnit] = []
    is_free = np.ones(len(costs), dtype=bool)
    while not chosen or scale * _width(now, level) > _MARGIN * data.goal.width:
        can = np.flatnonzero(is_free & (costs <= room))
        if not len(can):
            break
        gains = now.variance - now.with_one_more(runs[can])
        # A unit that was begun may cost almost nothing more, so costs have a floor.
        best = can[int((gains / np.maximum(costs[can], 1e-3 * costs.max())).argmax())]
        now = now.after(_flat(runs[[best]]))
        is_free[best], room = False, room - costs[best]
        chosen.append(buyable[best])
    return chosen, scale * _width(now, level)


def _with_cells(
    data: Evidence,
    look: Look,
    buyable: Sequence[PursuitUnit],
    chosen: Sequence[PursuitUnit],
    after: float | None,
    why: str,
) -> PursuitRound:
    """The round that trains the chosen units and declares the next look."""
    cost = sum(unit.cost for unit in chosen)
    # What the cells do not need of the reserve may buy more, so a look is the last one only if that would not.
    least = sum(unit.cost if unit.least_cost is None else unit.least_cost for unit in chosen)
    left = data.goal.budget - data.spent - least
    taken = {unit.signatures for unit in chosen}
    last = not any(unit.cost <= left for unit in buyable if unit.signatures not in taken)
    claims = last or (after is not None and after <= _NEAR * data.goal.width)
    level = data.next_level(look, last=last) if claims else USUAL_LEVEL
    if after is not None:  # the width told is that of the next look, whatever its level
        assumed = data.next_level(look, last=False)
        after *= float(special.ndtri(0.5 + level / 2) / special.ndtri(0.5 + assumed / 2))
    return replace(
        data.seen(look),
        kind="design" if look.precision is None else "narrow",
        cells=tuple(s for unit in chosen for s in unit.signatures),
        labels=tuple(label for unit in chosen for label in unit.labels),
        expected_width=after,
        cost=cost,
        next_claims=claims,
        next_level=level,
        next_is_last=last,
        reason=f"{why}; the last that the budget buys" if last else why,
    )


def _was_last(goal: GoalConfig, before: Sequence[PursuitRound]) -> bool:
    """Whether this look was declared as the last one, for a budget that is not raised since."""
    last = before[-1] if before else None
    is_raised = last is not None and (goal.unit != last.unit or goal.budget > last.budget)
    return last is not None and last.next_is_last and not is_raised


def _why_nothing_left(units: Sequence[PursuitUnit], goal: GoalConfig, spent: float) -> str:
    if not units:
        return "every cell of the grid is trained; add sizes to [grid], or goal.n_seeds"
    cheapest = min(unit.cost for unit in units)
    if not spent:
        return f"the budget of {goal.budget:.3g} {goal.unit} buys no cell: the cheapest costs {cheapest:.3g}"
    left = max(goal.budget - spent, 0.0)
    return f"the budget is spent: the cheapest cell left costs {cheapest:.3g}, and {left:.3g} {goal.unit} are left"


def _sizes(table: pd.DataFrame) -> list[tuple[float, float]]:
    if not len(table):
        return []
    return [
        (float(n), float(d)) for n, d in zip(table["n_params"], table["n_samples"], strict=True)
    ]


def _padded(units: Sequence[PursuitUnit]) -> FloatArray:
    """Sizes of the units, (units, runs, 2), NaN after a unit's last run."""
    most = max(len(unit.sizes) for unit in units)
    runs = np.full((len(units), most, 2), np.nan)
    for row, unit in zip(runs, units, strict=True):
        row[: len(unit.sizes)] = unit.sizes
    return runs


def _flat(runs: FloatArray) -> FloatArray:
    flat = runs.reshape(-1, 2)
    return flat[~np.isnan(flat[:, 0])]
