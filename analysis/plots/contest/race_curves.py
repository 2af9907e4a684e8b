"""A race in one figure: the metric of each variant's runs and law against the budget, with bands and the best of all."""

import numpy as np
from matplotlib.axes import Axes

from analysis.budget import frontier
from analysis.gain import VariantLaw
from analysis.plots.style import GREY, dress, log_ticks, new_axes, set_title
from analysis.study_results import Race
from analysis.table import LABELS
from scaling.errors import UserError

__all__ = ["plot_race"]


# Models have no order, so their colours have none: distinct for colour-blind readers, with a contrast of at least 3 on white.
_COLOURS = ("#000000", "#0072b2", "#c2500a", "#00805c", "#aa3377", "#7a6a00", "#4a6fe3", "#8c564b")
# Budgets of a curve, and how far it goes beyond the runs.
_POINTS, _BEYOND = 33, 10.0
_MARKERS = "osD^vP*X<>"


def plot_race(race: Race, *, ax: Axes | None = None) -> Axes:
    """Plot cells as points and each law at the best split of each budget, dashed beyond its runs.

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
    curves = {}
    for i, law in enumerate(race.laws):
        colour, marker = _COLOURS[i % len(_COLOURS)], _MARKERS[i % len(_MARKERS)]
        budgets, values = _cells(law)
        fitted = law.name not in race.left_out and (race.gains is not None or n == 1)
        label = _short(law.name) + ("" if fitted else " (no law)")
        ax.plot(
            budgets, values - floor, marker, color=colour, ms=4, mec="white", mew=0.4, label=label
        )
        if not fitted:
            continue
        low, high = law.range
        grid = np.geomspace(low, high * _BEYOND, _POINTS)
        try:
            mean, lower, upper = _curve(law, grid)
        except UserError:
            continue
        curves[law.name] = grid, mean
        inside = grid <= high
        ax.fill_between(grid, lower - floor, upper - floor, color=colour, alpha=0.13, lw=0)
        ax.plot(grid[inside], mean[inside] - floor, color=colour, lw=1.6)
        ax.plot(grid[~inside], mean[~inside] - floor, color=colour, lw=1.2, ls="--")
    ax.set_xscale("log")
    if race.floor is not None:
        ax.set_yscale("log")
    _mark_best(ax, race)
    unit = race.laws[0].unit
    ax.set_xlabel(LABELS.get(unit, unit))
    name = LABELS.get(race.metric, race.metric)
    ax.set_ylabel(f"{race.metric} minus that of the truth" if race.floor is not None else name)
    dress(ax)
    if race.floor is not None:
        log_ticks(ax.yaxis)
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    set_title(ax, race_title(race))
    return ax


def race_title(race: Race) -> str:
    """Which variant is best at the largest budget of the runs and ten times beyond, with its probability."""
    if race.gains is None:
        return f"{len(race.laws)} variants; no law can be compared with {_short(race.reference)}'s"
    told = []
    for budget in sorted({gain.budget for gain in race.gains.gains})[-2:]:
        best = max(
            (gain for gain in race.gains.gains if gain.budget == budget), key=lambda g: g.best
        )
        where = f", {best.beyond:.2g} x beyond the runs" if best.beyond > 1 else ""
        told.append(
            f"at {budget:.2g} {race.laws[0].unit}{where}: {_short(best.variant)} is best with probability {best.best:.2f}"
        )
    return "\n".join(told)


def _short(name: str) -> str:
    """The value alone, where a variant is named by one column."""
    column, _, value = name.partition("=")
    return value if column == "model.kind" and "," not in value else name


def _cells(law: VariantLaw) -> tuple[np.ndarray, np.ndarray]:
    columns = list(law.fit.columns.values())
    cells = law.table.groupby(columns)
    means = cells[law.fit.y].mean().to_numpy(float)
    if law.cost and law.unit in law.table.columns:
        return cells[law.unit].mean().to_numpy(float), means
    sizes = np.array(list(cells.groups), dtype=float).reshape(len(means), -1)
    budgets = law.cost(sizes[:, 0], sizes[:, 1]) if law.cost else sizes[:, 0]
    return np.asarray(budgets, dtype=float), means


def _curve(law: VariantLaw, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The law at each budget and the ends of its interval."""
    if law.cost is None:
        mean = law.fit.predict(grid)
        band = law.fit.band(grid)
        return mean, band.lower, band.upper
    ends = np.array([point.metric for point in frontier(law.fit, law.cost, list(grid))])
    return ends[:, 0], ends[:, 1], ends[:, 2]


def _mark_best(ax: Axes, race: Race) -> None:
    """Shade the budgets beyond the runs of all variants."""
    if race.gains is None:
        return
    left, right = ax.get_xlim()
    for outer, inner in ((left, race.gains.range[0]), (right, race.gains.range[1])):
        ax.axvspan(outer, inner, color=GREY, alpha=0.08, lw=0)
    ax.set_xlim(left, right)
