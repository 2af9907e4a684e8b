"""The common style of all figures: axes, colours, markers, tick labels, titles, keys."""

import textwrap
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from analysis.fit import LawFit
from analysis.table import LABELS

__all__ = ["dress", "new_axes"]


MARKERS = "osD^vP*X<>"
GREY = "#666666"
# Models have no order, so their colours have none: distinct for colour-blind readers, with a contrast of at least 3 on white.
MODEL_COLOURS = (
    *("#000000", "#0072b2", "#c2500a", "#00805c"),
    *("#aa3377", "#7a6a00", "#4a6fe3", "#8c564b"),
)
# Curves of a fit that is not to be trusted, and the title that says so.
DOUBTFUL = "#8c8c8c"
WARNING = "#a11d33"
# What a law gives for a budget: best splits, power laws of the best size.
ACCENT = "#0072b2"
# A legend with more groups does not fit beside the axes; a colour bar does.
LEGEND_ENTRIES = 8
_BAR_LABELS = 16
_WIDTH = 7.2  # inches, of a figure of one panel
_TITLE_WIDTH = 88
# A line of the bold title has so many of these characters.
_BOLD = 0.85
_KEY_WIDTH = 26
_NAME_WIDTH = 48
# Inferno without its ends: black looks like an axis, and orange beyond this has a contrast below 3 on white.
_DARKEST, _PALEST = 0.12, 0.66
# Below so many cells for each parameter, R2 is high whatever the law.
_FEW_CELLS = 2
_LACK = "lack of fit"


def new_axes() -> Axes:
    """The Axes of a new figure."""
    # Not from pyplot, so nobody has to close the figure.
    return Figure(figsize=(_WIDTH, 4.4), layout="constrained").subplots()


def colour_of(i: int, n: int) -> tuple[float, float, float, float]:
    """Colour i of n: distinct for colour-blind readers, with a contrast of at least 3 on white."""
    share = 0.0 if n == 1 else i / (n - 1)
    return colormaps["inferno"](_DARKEST + (_PALEST - _DARKEST) * share)


def sizes_map() -> LinearSegmentedColormap:
    """The colours of `colour_of` as a continuous map."""
    return LinearSegmentedColormap.from_list("sizes", [colour_of(i, 16) for i in range(16)])


def metric_label(metric: str, *, foreign: bool = False) -> str:
    """The label of a metric; a column of a foreign table keeps its name, as its unit is not known."""
    return short_name(metric if foreign else LABELS.get(metric, metric))


def short_name(name: str) -> str:
    """A name that leaves a figure its room."""
    return name if len(name) <= _NAME_WIDTH else f"{name[: _NAME_WIDTH - 1]}…"


def plain(value: float, _position: float = 0.0) -> str:
    """Tick labels 0.2, 0.1, 0.05, ... instead of powers of ten."""
    return f"{value:g}"


def log_ticks(axis: Axis, label: Callable[[float], str] = plain) -> None:
    """Set as many labelled ticks on a logarithmic axis as its range has room for.

    Args:
        axis: with its final limits.
        label: of a tick, e.g. `analysis.table.size_label`.
    """
    low, high = axis.get_view_interval()
    decades = float(np.log10(high / low))
    # a horizontal axis has room for fewer
    room = 0.7 if isinstance(axis, XAxis) else 1.0
    if decades < 0.8 * room:
        axis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    else:
        subs = (1.0, 2.0, 3.0, 5.0, 7.0) if decades < 1.6 * room else (1.0, 2.0, 5.0)
        axis.set_major_locator(LogLocator(subs=subs if decades < 3 * room else (1.0,)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: label(value))
    axis.set_minor_formatter(NullFormatter())


def law_title(fit: LawFit, *, curves: bool = True) -> str:
    """The law of a figure and its status.

    Args:
        fit: of the law.
        curves: whether the figure has curves, whose look marks a law that the data do not determine.
    """
    law = f"{fit.law.name} law"
    if fit.options.fixed:
        held = ", ".join(f"{name} held at {value:.4g}" for name, value in fit.options.fixed.items())
        law += f" with {held}"
    status = fit.status.replace("_", " ")
    if not fit.has_curve:
        return f"{law}: {status}, no curve"
    first = f"{law}, {status}"
    if not fit.success:
        names = fit.at_bound if fit.status == "at_bound" else fit.unidentified
        which = f" ({', '.join(names)})" if names else ""
        look = "; its curves are dashed and grey" if curves else ""
        first = f"{law}: {status.upper()}{which}{look}"
    return "\n".join([first, *_lack_of_fit(fit)])


def law_facts(fit: LawFit) -> str:
    """E of a law with its interval, and R2 with what it does not say; for the caption of a figure with its curves."""
    own = [] if "E" in fit.fixed or "E" not in fit.params else [f"E = {fit.estimate('E')}"]
    return "; ".join([*own, *_r_squared_text(fit)])


def _lack_of_fit(fit: LawFit) -> list[str]:
    """The first words of the remarks on it."""
    told = [note.partition(" (")[0] for note in fit.notes if note.startswith(_LACK)]
    return [note.replace(_LACK, _LACK.upper(), 1) for note in told]


def _r_squared_text(fit: LawFit) -> list[str]:
    if not np.isfinite(fit.r_squared):
        return []
    text = f"R² of {fit.y} = {fit.r_squared:.4f}"
    if fit.n_cells < _FEW_CELLS * fit.n_free:
        return [f"{text} says little: {fit.n_cells} cells, {fit.n_free} free parameters"]
    return [f"{text}, {fit.n_cells} cells: no test of E or form"]


def set_title(ax: Axes, text: str, *, doubtful: bool = False) -> None:
    """A small title at the left, each line in as many lines as it needs, red if the data do not determine the law."""
    ax.set_title(
        _wrapped(text, _TITLE_WIDTH), fontsize=9, loc="left", color=_title_colour(doubtful)
    )


def set_figure_title(figure: Figure, text: str, *, doubtful: bool = False) -> None:
    """The same above all panels of a figure."""
    width = int(_TITLE_WIDTH * figure.get_figwidth() / _WIDTH)
    figure.suptitle(
        _wrapped(text, width), x=0.01, ha="left", fontsize=9, color=_title_colour(doubtful)
    )


def _wrapped(text: str, width: int) -> str:
    lines = [textwrap.fill(line, width) for line in text.split("\n")]
    return "\n".join(lines)


def set_finding(figure: Figure, text: str) -> None:
    """What a figure shows, in bold above the titles of its panels; one with a title over all of them says it there."""
    if figure.get_suptitle():
        return
    width = int(_TITLE_WIDTH * figure.get_figwidth() / _WIDTH * _BOLD)
    figure.suptitle(_wrapped(text, width), x=0.01, ha="left", fontsize=10, fontweight="bold")


def _title_colour(doubtful: bool) -> str:
    return WARNING if doubtful else "black"


def key_label(text: str) -> str:
    """A label of a legend beside the axes, in lines so short that the axes keep their room."""
    return textwrap.fill(text, _KEY_WIDTH, break_long_words=False)


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
