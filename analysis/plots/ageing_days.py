"""The figure of ageing: a model's loss by day after the last training impression."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plots.style import GREY, MARKERS, colour_of, dress
from analysis.study_results import Ageing

__all__ = ["ageing_finding", "plot_ageing"]


_LINES = {"recent": "-", "independent": "--", "shared": ":"}


def plot_ageing(found: Ageing) -> Figure:
    """Draw the loss by day, and the loss over the entropy of the day's share of clicks, one curve per size and order."""
    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw(left, found, relative=False)
    _draw(right, found, relative=True)
    right.legend(
        handles=_key(found), loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=8
    )
    return figure


def ageing_finding(found: Ageing) -> str:
    """How fast the metric of the largest data size gets worse, for each order of the data."""
    last = found.lost.groupby(level=0).last()
    slopes = ", ".join(f"{value:+.2f} % ({order})" for order, value in last.items())
    return (
        f"A day later {found.metric} of {found.grade} differs by {slopes} of the entropy of the day"
    )


def _key(found: Ageing) -> list[Line2D]:
    """One line for each size (colour) and each order (line style), not for each pair of them."""
    sizes = sorted({int(size) for _, size in found.by_day.index})
    orders = dict.fromkeys(str(order) for order, _ in found.by_day.index)
    return [
        *(
            Line2D([], [], color=colour_of(i, len(sizes)), marker=MARKERS[i % len(MARKERS)], ms=4, ls="",
                   label=f"{size:,} samples")
            for i, size in enumerate(sizes)
        ),
        *(Line2D([], [], color="black", ls=_LINES.get(o, "-"), label=o) for o in orders),
        Line2D([], [], color=GREY, lw=0.8, label="entropy of the day"),
    ]  # fmt: skip


def _draw(ax: Axes, found: Ageing, *, relative: bool) -> None:
    values = found.by_day / found.entropy if relative else found.by_day
    sizes = sorted({int(size) for _, size in values.index})
    for (order, size), row in zip(values.index, values.to_numpy(), strict=True):
        i = sizes.index(int(size))
        ax.plot(
            values.columns, row, _LINES.get(str(order), "-"), marker=MARKERS[i % len(MARKERS)],
            color=colour_of(i, len(sizes)), ms=4,
        )  # fmt: skip
    if not relative:
        ax.plot(found.entropy.index, found.entropy.to_numpy(), color=GREY, lw=0.8)
    ax.set_xlabel("day after the last training impression")
    ax.set_ylabel(f"{found.metric} / entropy of the day" if relative else f"{found.metric} (nats)")
    dress(ax)
