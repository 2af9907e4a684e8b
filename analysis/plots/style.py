"""The common style of all figures: axes, colours, markers, tick labels, titles, keys."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from analysis.fit import LawFit

__all__ = ["dress", "new_axes"]


MARKERS = "osD^vP*X<>"
GREY = "#666666"
# Curves of a fit that is not to be trusted.
DOUBTFUL = "#8c8c8c"
# A legend with more groups does not fit beside the axes; a colour bar does.
LEGEND_ENTRIES = 8
_BAR_LABELS = 16


def new_axes() -> Axes:
    """The Axes of a new figure."""
    # Not from pyplot, so nobody has to close the figure.
    return Figure(figsize=(7.2, 4.4), layout="constrained").subplots()


def colour_of(i: int, n: int) -> tuple[float, float, float, float]:
    # Viridis without its palest end, which is hard to see on white.
    return colormaps["viridis"](0.0 if n == 1 else 0.88 * i / (n - 1))


def plain(value: float, _position: float = 0.0) -> str:
    """Tick labels 0.2, 0.1, 0.05, ... of a logarithmic axis; the others are empty, as they would overlap."""
    digit = f"{value:e}"[0]
    return f"{value:g}" if digit in "12357" else ""


def law_title(fit: LawFit, *, curves: bool = True) -> str:
    """The law of a figure and its status; how its curves, if any, look if the data do not determine it."""
    law = f"{fit.law.name} law"
    if fit.options.fixed:
        held = ", ".join(f"{name} held at {value:.4g}" for name, value in fit.options.fixed.items())
        law += f" with {held}"
    status = fit.status.replace("_", " ")
    if fit.success:
        return f"{law}, {status}"
    if not fit.has_curve:
        return f"{law}: {status}, no curve"
    names = fit.at_bound if fit.status == "at_bound" else fit.unidentified
    which = f" ({', '.join(names)})" if names else ""
    look = "; its curves are dashed and grey" if curves else ""
    return f"{law}: {status.upper()}{which}{look}"


def set_title(ax: Axes, text: str) -> None:
    """A small title at the left, in as many lines as it needs."""
    ax.set_title(textwrap.fill(text, 84), fontsize=9, loc="left")


def group_bar(ax: Axes, labels: Sequence[str], title: str) -> None:
    """A colour bar as the key of many groups, which have the colours of `colour_of`."""
    n = len(labels)
    colours = ListedColormap([colour_of(i, n) for i in range(n)])
    key = ScalarMappable(BoundaryNorm(np.arange(n + 1) - 0.5, n), colours)
    # From the largest down, at even distances.
    step = -(-n // _BAR_LABELS)
    ticks = list(range(n - 1, -1, -step))[::-1]
    bar = ax.figure.colorbar(key, ax=ax, ticks=ticks, label=title)
    bar.ax.set_yticklabels([labels[i] for i in ticks])
    bar.ax.minorticks_off()


def dress(ax: Axes) -> None:
    """Set the spines and the grid of a figure."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(True, color="#dddddd", lw=0.6)
    ax.set_axisbelow(True)
