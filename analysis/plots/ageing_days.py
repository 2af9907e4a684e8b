"""The figure of ageing: a model's loss by day after the last training impression."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.style import GREY, MARKERS, colour_of, dress
from analysis.study_results import Ageing

__all__ = ["plot_ageing"]


_LINES = {"recent": "-", "independent": "--", "shared": ":"}


def plot_ageing(found: Ageing) -> Figure:
    """Draw the loss by day, and the loss over the entropy of the day's share of clicks, one curve per size and order."""
    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw(left, found, relative=False)
    _draw(right, found, relative=True)
    right.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=8)
    return figure


def _draw(ax: Axes, found: Ageing, *, relative: bool) -> None:
    values = found.by_day / found.entropy if relative else found.by_day
    sizes = sorted({int(size) for _, size in values.index})
    for (order, size), row in zip(values.index, values.to_numpy(), strict=True):
        i = sizes.index(int(size))
        ax.plot(
            values.columns, row, _LINES.get(str(order), "-"), marker=MARKERS[i % len(MARKERS)],
            color=colour_of(i, len(sizes)), ms=4, label=f"{order}, {int(size):,}",
        )  # fmt: skip
    if not relative:
        ax.plot(
            found.entropy.index, found.entropy.to_numpy(), color=GREY, lw=0.8, label="entropy of the day"
        )  # fmt: skip
    ax.set_xlabel("day after the last training impression")
    ax.set_ylabel(f"{found.metric} / entropy of the day" if relative else f"{found.metric} (nats)")
    dress(ax)
