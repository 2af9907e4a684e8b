"""The figure of compute-equivalent gains: the share of the reference's budget against the budget, a band per variant."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from analysis.fit import LawFit
from analysis.gain import ComputeGains, GainAt
from analysis.plots.style import (
    GREY,
    colour_of,
    dress,
    key_label,
    log_ticks,
    new_axes,
    set_title,
)
from analysis.table import LABELS

__all__ = ["gain_text", "plot_gains"]


# Shares outside are cut off: an open interval would press the others flat.
_SHOWN = 1e-2, 1e2
# Variants that the title tells of.
_TOLD = 2


def plot_gains(
    found: ComputeGains,
    unit: str,
    metric: str,
    *,
    fits: Mapping[str, LawFit] | None = None,
    unit_label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot each variant's share with its interval; the part beyond the runs of all variants is shaded.

    Args:
        found: at a grid of budgets.
        unit: column or unit of the budget.
        metric: that is reached, for the label.
        fits: the law of each variant, whose name and status the title tells.
        unit_label: of the budget; default: by its unit.
        ax: axes to plot on; default: those of a new figure.
    """
    if ax is None:
        ax = new_axes()
    unit_label = unit_label or LABELS.get(unit, unit)
    names = list(found.correlations)
    doubtful = {name for name, fit in (fits or {}).items() if not fit.success}
    for i, name in enumerate(names):
        gains = [gain for gain in found.gains if gain.variant == name]
        budgets = np.array([gain.budget for gain in gains])
        share, low, high = np.array([gain.share for gain in gains]).T
        colour = colour_of(i, len(names))
        # an open end runs off the axes, and so does a share that is never reached
        edges = [np.clip(end, _SHOWN[0] / 10, _SHOWN[1] * 10) for end in (low, high)]
        ax.fill_between(budgets, *edges, color=colour, alpha=0.2, lw=0)
        ax.plot(
            budgets, np.where(np.isfinite(share), share, np.nan), color=colour, lw=1.5,
            ls="--" if doubtful & {name, found.reference} else "-", label=name,
        )  # fmt: skip
    ax.axhline(1.0, color=GREY, lw=1.0, ls="--", label=f"{found.reference} (reference)")
    ax.set(xscale="log", yscale="log")
    low, high = ax.get_ylim()
    ax.set_ylim(max(low, _SHOWN[0]), min(high, _SHOWN[1]))
    left, right = ax.get_xlim()
    _mark_crossings(ax, found, names, (left, right))
    for outer, inner in ((left, found.range[0]), (right, found.range[1])):
        ax.axvspan(outer, inner, color=GREY, alpha=0.08, lw=0)
    ax.set_xlim(left, right)
    ax.set_xlabel(f"{unit_label} of {found.reference}")
    ax.set_ylabel(f"share of the budget for equal {metric}")
    dress(ax)
    log_ticks(ax.yaxis)
    _key(ax, found)
    said = [gain_text(gain, found, unit, metric) for gain in _last(found)[:_TOLD]]
    set_title(ax, "\n".join([*said, *_statuses(fits or {})]), doubtful=bool(doubtful))
    return ax


def gain_text(gain: GainAt, found: ComputeGains, unit: str, metric: str) -> str:
    """One line: the share of a variant at a budget, with its interval."""
    share, low, high = gain.share
    if not np.isfinite(share):
        return (
            f"{gain.variant} does not reach the {metric} of {found.reference} at {gain.budget:.2g} {unit}; "
            f"it needs at least {low:.3g}x"
        )
    return (
        f"{gain.variant} needs {share:.3g}x [{low:.3g}, {high:.3g}] of the {gain.budget:.2g} {unit} of {found.reference} "
        f"for equal {metric}"
    )


def _last(found: ComputeGains) -> list[GainAt]:
    """Each variant at the largest budget that the runs of all variants cover."""
    inside = [gain for gain in found.gains if gain.beyond == 1 and gain.variant != found.reference]
    return list({gain.variant: gain for gain in inside}.values())


def _statuses(fits: Mapping[str, LawFit]) -> list[str]:
    """The laws and their statuses as a line of the title."""
    told: dict[str, list[str]] = {}
    for name, fit in fits.items():
        status = fit.status if fit.success else fit.status.replace("_", " ").upper()
        told.setdefault(f"{fit.law.name} law, {status}", []).append(name)
    if len(told) == 1:
        return list(told)
    return (
        ["; ".join(f"{', '.join(names)}: {text}" for text, names in told.items())] if told else []
    )


def _mark_crossings(
    ax: Axes, found: ComputeGains, names: list[str], limits: tuple[float, float]
) -> None:
    """A point where a variant and the reference need the same, with its interval as far as the axes go."""
    for crossing in found.crossings:
        colour = colour_of(names.index(crossing.variant), len(names))
        budget, *ends = crossing.budget
        ax.plot(np.clip(ends, *limits), [1.0, 1.0], color=colour, lw=2.5, alpha=0.8, zorder=4)
        low, high = ("open" if end in (0.0, np.inf) else f"{end:.2g}" for end in ends)
        label = f"equal at {budget:.2g} [{low}, {high}]"
        ax.plot(budget, 1.0, "o", color=colour, mec="white", ms=7, ls="", zorder=5, label=label)


def _key(ax: Axes, found: ComputeGains) -> None:
    handles, labels = ax.get_legend_handles_labels()
    handles += [
        Patch(color=GREY, alpha=0.3, lw=0),
        Patch(color=GREY, alpha=0.1, lw=0),
    ]
    labels += [f"{100 * found.level:g} % interval", "beyond the runs"]
    ax.legend(
        handles, [key_label(label) for label in labels], loc="upper left", bbox_to_anchor=(1.01, 1.0),
        frameon=False, fontsize=9, alignment="left",
    )  # fmt: skip
