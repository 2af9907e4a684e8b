"""A race in one figure: the metric of each variant's runs and law against the budget, with bands and the best of all."""

import numpy as np
from matplotlib.axes import Axes

from analysis.budget import frontier
from analysis.gain import VariantLaw
from analysis.plots.style import GREY, MARKERS, MODEL_COLOURS, dress, log_ticks, new_axes, set_title
from analysis.study_results import Race, race_headline
from analysis.table import LABELS
from scaling.errors import UserError

__all__ = ["plot_race"]


# Budgets of a curve, and how far it goes beyond the runs.
_POINTS, _BEYOND = 33, 10.0
# A split that exceeds the runs by less counts as inside.
_INSIDE = 1.05
# characters of a name in the legend
_LONGEST = 40


def plot_race(race: Race, *, ax: Axes | None = None) -> Axes:
    """Plot cells as points and each law at the best split of a budget, dashed where the split lies beyond its runs.

    A metric that falls is shown minus its floor, if the truth of the log gives one. Variants whose law the data do not
    determine have points only.

    Args:
        race: of laws of model size and data size, or of one size.
        ax: axes to plot on; default: those of a new figure.
    """
    if ax is None:
        ax = new_axes()
    floor = race.floor or 0.0
    n = len(race.laws)
    without_law = race.without_law if n > 1 else ()
    shown: list[np.ndarray] = []
    for i, law in enumerate(race.laws):
        colour, marker = MODEL_COLOURS[i % len(MODEL_COLOURS)], MARKERS[i % len(MARKERS)]
        budgets, values = _cells(law)
        shown.append(values - floor)
        fitted = law.name not in without_law
        label = _in_legend(law.name) + ("" if fitted else " (no law)")
        ax.plot(
            budgets, values - floor, marker, color=colour, ms=5, mec="none", alpha=0.8, label=label
        )
        if not fitted:
            continue
        low, high = law.range
        grid = np.geomspace(low, high * _BEYOND, _POINTS)
        try:
            mean, lower, upper, inside = _curve(law, grid)
        except UserError:
            continue
        inside &= grid <= high * (1 + 1e-9)
        shown.append(mean - floor)
        ax.fill_between(grid, lower - floor, upper - floor, color=colour, alpha=0.13, lw=0)
        ax.plot(grid[inside], mean[inside] - floor, color=colour, lw=1.6)
        ax.plot(grid[~inside], mean[~inside] - floor, color=colour, lw=1.2, ls="--")
    ax.set_xscale("log")
    if race.floor is not None:
        ax.set_yscale("log")
    # the bands of undetermined laws would take the whole figure
    low, high = np.min(np.concatenate(shown)), np.max(np.concatenate(shown))
    ax.set_ylim(
        (low / 1.15, high * 1.1)
        if race.floor is not None
        else (low - 0.1 * (high - low), high + 0.1 * (high - low))
    )
    _mark_beyond(ax, race)
    unit = race.laws[0].unit
    ax.set_xlabel(LABELS.get(unit, unit))
    name = LABELS.get(race.metric, race.metric)
    ax.set_ylabel(f"{race.metric} minus that of the truth" if race.floor is not None else name)
    dress(ax)
    if race.floor is not None:
        log_ticks(ax.yaxis)
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    set_title(ax, "\n".join([race_headline(race), *_by_laws(race)]))
    return ax


def _in_legend(name: str) -> str:
    """A name that leaves room for the axes; the tables have all of it."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST // 2]}…{name[-_LONGEST // 2 :]}"


def _by_laws(race: Race) -> list[str]:
    """Which model the laws prefer at the largest budget of the runs."""
    if race.gains is None:
        return [f"no law can be compared with that of {race.reference}"]
    inside = [gain for gain in race.gains.gains if gain.beyond == 1]
    best, law = race.best_at(inside[-1].budget)
    doubts = [] if law.fit.success else ["a law that the data do not determine"]
    if (reach := race.reach(best)) is not None:
        doubts.append(f"a split {reach:.2g} x beyond its runs")
    text = f"by laws at {best.budget:.2g} {race.laws[0].unit}, {best.variant} is best with probability {best.best:.2f}"
    return [text + (f" ({' and '.join(doubts)})" if doubts else "")]


def _cells(law: VariantLaw) -> tuple[np.ndarray, np.ndarray]:
    columns = list(law.fit.columns.values())
    cells = law.table.groupby(columns)
    means = cells[law.fit.y].mean().to_numpy(float)
    if law.cost and law.unit in law.table.columns:
        return cells[law.unit].mean().to_numpy(float), means
    sizes = np.array(list(cells.groups), dtype=float).reshape(len(means), -1)
    budgets = law.cost(sizes[:, 0], sizes[:, 1]) if law.cost else sizes[:, 0]
    return np.asarray(budgets, dtype=float), means


def _curve(
    law: VariantLaw, grid: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The law at each budget, the ends of its interval, and whether the best split lies within the runs."""
    if law.cost is None:
        band = law.fit.band(grid)
        return band.mean, band.lower, band.upper, ~band.outside
    points = frontier(law.fit, law.cost, list(grid))
    ends = np.array([point.metric for point in points])
    inside = np.array([point.reach <= _INSIDE for point in points])
    return ends[:, 0], ends[:, 1], ends[:, 2], inside


def _mark_beyond(ax: Axes, race: Race) -> None:
    """Shade the budgets beyond the runs of all variants."""
    if race.gains is None:
        return
    left, right = ax.get_xlim()
    for outer, inner in ((left, race.gains.range[0]), (right, race.gains.range[1])):
        ax.axvspan(outer, inner, color=GREY, alpha=0.08, lw=0)
    ax.set_xlim(left, right)
