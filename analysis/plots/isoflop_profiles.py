"""The figure of IsoFLOP profiles: the metric against model size, one curve per budget, and the power law of the minima."""

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.budget import IsoFlop, Profile
from analysis.plots.style import (
    ACCENT,
    GREY,
    LEGEND_ENTRIES,
    MARKERS,
    colour_of,
    dress,
    key_label,
    log_ticks,
    metric_label,
    set_figure_title,
)
from analysis.table import Size, size_label, size_of
from analysis.uncertainty import format_estimate
from scaling.arrays import FloatArray

__all__ = ["plot_isoflop"]


# The law is drawn up to this many times beyond the budgets, dashed.
_REACH = 10.0
# Below these p-values the title warns; as in the remarks of `scaling isoflop`.
_SCATTER_P, _SKEW_P = 0.05, 0.01


def plot_isoflop(
    found: IsoFlop,
    metric: str,
    size: Size,
    *,
    budget_label: str | None = None,
    rising: bool = False,
    foreign: bool = False,
) -> Figure:
    """Plot the profiles and, beside them, the best size of each budget with its power law.

    Runs too far from the best size for the parabola are open; budgets without a best size are crosses.

    Args:
        found: the profiles.
        metric: their column, for the label.
        size: the model's size, for the label.
        budget_label: of the budgets; default: training FLOPs.
        rising: whether larger is better.
        foreign: the table is not of our runs, so that the metric's unit is not known.
    """
    budget_label = budget_label or size_of("flops").label
    figure = Figure(figsize=(11.0, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    used, out = found.used, [profile for profile in found.profiles if profile.left_out]
    step = -(-len(used) // LEGEND_ENTRIES)
    shown = [(i, profile) for i, profile in enumerate(used) if i % step == 0]
    for profile in out if len(out) <= LEGEND_ENTRIES else ():
        left.plot(profile.sizes, profile.metric, "x", color=GREY, ms=4, mew=0.8, zorder=1)
    for i, profile in shown:
        _draw_profile(left, profile, colour_of(i, len(used)), MARKERS[i // step % len(MARKERS)])
    left.plot(
        [p.best_size for _, p in shown], [p.best_metric for _, p in shown], "*", color="black",
        ms=10, mec="white", mew=0.6, zorder=5,
    )  # fmt: skip
    # runs far from the best size would press the parabolas flat
    close = np.concatenate([profile.metric[profile.near] for profile in used])
    margin = 0.5 * np.ptp(close)
    low, high = left.get_ylim()
    left.set_ylim(max(low, close.min() - margin), min(high, close.max() + margin))
    left.set_xscale("log")
    log_ticks(left.xaxis, size_label)
    left.set_xlabel(size.label)
    left.set_ylabel(metric_label(metric, foreign=foreign))
    dress(left)
    _draw_law(right, found, size, budget_label)
    best = "maximum" if rising else "minimum"
    _key(right, found, step, best, budget_label)
    said, doubtful = _title(found, best)
    set_figure_title(figure, said, doubtful=doubtful)
    return figure


def _draw_profile(
    ax: Axes, profile: Profile, colour: tuple[float, float, float, float], marker: str
) -> None:
    near, far = profile.near, ~profile.near
    ax.plot(
        profile.sizes[near], profile.metric[near], marker, color=colour, ms=5, mec="white", mew=0.5
    )
    ax.plot(
        profile.sizes[far],
        profile.metric[far],
        marker,
        mec=colour,
        mfc="white",
        ms=4.5,
        mew=0.9,
        gid="not fitted",
    )
    grid: FloatArray = np.geomspace(profile.sizes[near].min(), profile.sizes[near].max(), 100)
    ax.plot(grid, profile.value(grid), color=colour, lw=1.3)


def _draw_law(ax: Axes, found: IsoFlop, size: Size, budget_label: str) -> None:
    """The best sizes and their power law, with the band of its exponent."""
    law, used = found.size, found.used
    budgets = np.array([profile.budget for profile in used])
    along = np.geomspace(budgets[0] / 1.5, budgets[-1] * _REACH, 100)
    inside = along <= budgets[-1]
    line = law.level * (along / law.budget) ** law.exponent
    ax.plot(along[inside], line[inside], color=ACCENT, lw=1.6)
    ax.plot(along[~inside], line[~inside], color=ACCENT, lw=1.3, ls="--")
    if law.interval is not None:
        low, high = (
            law.level * (along / law.budget) ** end
            for end in (law.interval.lower, law.interval.upper)
        )
        ax.fill_between(along, low, high, color=ACCENT, alpha=0.18, lw=0)
    ax.plot(
        budgets, [profile.best_size for profile in used], "*", color="black", ms=9 if len(used) < 20 else 6,
        mec="white", mew=0.6, zorder=5,
    )  # fmt: skip
    ax.set(xscale="log", yscale="log")
    log_ticks(ax.xaxis)
    log_ticks(ax.yaxis, size_label)
    ax.set_xlabel(budget_label)
    ax.set_ylabel(f"best {size.label}")
    dress(ax)


def _key(ax: Axes, found: IsoFlop, step: int, best: str, budget_label: str) -> None:
    """One legend for both panels: the budgets, then what the marks and the law mean."""
    used, law = found.used, found.size
    handles: list[Artist] = [
        Line2D(
            [],
            [],
            color=colour_of(i, len(used)),
            marker=MARKERS[i // step % len(MARKERS)],
            ms=5,
            lw=1.3,
            label=f"{used[i].budget:.2g}",
        )
        for i in range(0, len(used), step)
    ]
    n_out = len(found.profiles) - len(used)
    marks = [
        ("*", "black", "black", f"best size: {best} of a parabola", True),
        (
            "o",
            "white",
            "black",
            "open: too far from it, not fitted",
            any((~p.near).any() for p in used),
        ),
        ("x", GREY, GREY, f"{n_out} budgets left out", 0 < n_out <= LEGEND_ENTRIES),
    ]
    handles += [
        Line2D([], [], ls="", marker=marker, mfc=face, mec=edge, ms=6, label=key_label(label))
        for marker, face, edge, label, is_drawn in marks
        if is_drawn
    ]
    text = f"$N^*$ = {law.level:.3g} (C / {law.budget:.2g})$^{{{law.exponent:.3f}}}$"
    handles.append(Line2D([], [], color=ACCENT, lw=1.6, label=text))
    if law.interval is not None:
        handles.append(
            Patch(color=ACCENT, alpha=0.18, lw=0, label=key_label("interval of the exponent"))
        )
    title = budget_label if step == 1 else f"{budget_label}\n(1 of {step} budgets on the left)"
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9,
              title=title, alignment="left")  # fmt: skip


def _title(found: IsoFlop, best: str) -> tuple[str, bool]:
    """The finding and what it rests on, and whether it is doubtful."""
    law, n_used, n_all = found.size, len(found.used), len(found.profiles)
    lines = [
        f"$N^*$ ∝ $C^a$ with a = {format_estimate(law.exponent, law.interval)}: approach 2, a parabola for each budget",
        f"{n_used} of {n_all} budgets have a {best} among their runs",
    ]
    if found.scatter_p < _SCATTER_P:
        lines[1] += (
            "; the best sizes scatter more than these runs explain, and the interval is that of resampled budgets"
        )
    if found.n_runs:
        lines[1] += f"; rows of {found.n_runs} runs share their errors, so there is no interval"
    is_skewed = found.skew_p < _SKEW_P
    if is_skewed:
        other = f"; sides that rise as powers of the size give a = {found.by_sides:.3f}"
        lines.append(
            f"The profiles are SKEWED (p = {found.skew_p:.1g}), so that the best size depends on which sizes were trained"
            f"{other if np.isfinite(found.by_sides) else ''}"
        )
    return "\n".join(lines), is_skewed or law.interval is None
