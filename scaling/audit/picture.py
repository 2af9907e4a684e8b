"""A picture of a store: history lengths, impressions per day, share of clicks per day."""

from datetime import date

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from scaling.arrays import Array
from scaling.audit.summary import Day, count_days, count_history_lengths
from scaling.store import EventStore

__all__ = ["plot_days", "plot_history_lengths", "plot_rates", "plot_store"]


_BLUE, _GREY = "#3b6ea8", "#666666"
_MOST_BARS = 120


def plot_store(store: EventStore) -> Figure:
    """Draw the three panels of a store; a dashed line marks a split by time.

    Logs longer than 120 days are drawn in periods of several days.
    """
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    axes = figure.subplots(1, 3)
    days = count_days(store)
    plot_history_lengths(store, axes[0])
    plot_days(days, axes[1])
    plot_rates(days, store, axes[2])
    if store.split["kind"] == "time":
        boundary = (store.split["boundary"] + store.utc_offset_seconds) / 86_400
        for ax in axes[1:]:
            ax.axvline(boundary, color=_GREY, linestyle="--", linewidth=1)
        axes[1].plot(
            [], [], color=_GREY, linestyle="--", linewidth=1, label="start of the test part"
        )
        _key(axes[1])
    return figure


def plot_history_lengths(store: EventStore, ax: Axes) -> Axes:
    """Draw the share of impressions by history length, in bins that double in width."""
    counts = count_history_lengths(store)
    starts = [0, *(2**k for k in range((len(counts) - 1).bit_length()))]
    shares = np.add.reduceat(counts, starts) / counts.sum()
    labels = [f"{a:,}" if a < 2 else f"{a:,}-{2 * a - 1:,}" for a in starts]
    ax.bar(range(len(starts)), shares, color=_BLUE, width=0.85)
    ax.set_xticks(range(len(starts)), labels, rotation=45, ha="right", fontsize=8)
    ax.set_xlabel("events before an impression")
    ax.set_ylabel("share of impressions")
    return ax


def plot_days(days: list[Day], ax: Axes) -> Axes:
    """Draw the number of impressions of each day."""
    start, width, n, _ = _periods(days)
    ax.bar(start, n / width, color=_BLUE, width=0.85 * width, align="edge")
    ax.set_ylabel(f"impressions per day{_mean_of(width)}")
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    return _with_dates(ax)


def plot_rates(days: list[Day], store: EventStore, ax: Axes) -> Axes:
    """Draw the share of clicks of each day with its standard error, and a line for the share of each part."""
    start, width, n, clicks = _periods(days)
    rate = clicks / n
    error = np.sqrt(rate * (1 - rate) / n)
    middle = start + width / 2
    ax.errorbar(middle, rate, error, fmt="o", markersize=3, color=_BLUE, elinewidth=1)
    for part, style in (("train", "-"), ("test", ":")):
        value = store.base_rate[part]
        ax.axhline(value, color=_GREY, linestyle=style, linewidth=1, label=f"{part} {value:.3f}")
    ax.set_ylabel(f"share of clicks{_mean_of(width)}")
    _key(ax)
    return _with_dates(ax)


def _key(ax: Axes) -> None:
    """A legend above the axes, where it covers nothing."""
    ax.legend(
        frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.0
    )


def _periods(days: list[Day]) -> tuple[Array, int, Array, Array]:
    """Return the periods with impressions: start (days since 1970), width in days, impressions and clicks."""
    day = np.array([(d.date - date(1970, 1, 1)).days for d in days])
    width = 1 + (int(day[-1]) - int(day[0])) // _MOST_BARS
    period = (day - day[0]) // width
    n = np.bincount(period, weights=[d.impressions for d in days])
    clicks = np.bincount(period, weights=[d.clicks for d in days])
    some = np.flatnonzero(n)
    return day[0] + some * width, width, n[some], clicks[some]


def _mean_of(width: int) -> str:
    return f"\nmean of {width} days" if width > 1 else ""


def _with_dates(ax: Axes) -> Axes:
    ax.xaxis_date()
    locator = AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    return ax
