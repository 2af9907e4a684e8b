"""The figure of accuracy against latency: families of models, the Pareto front, a budget, labels."""

import textwrap
from collections.abc import Mapping
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from analysis.latency import best_under, pareto_front
from analysis.plots.style import GREY, MARKERS, MODEL_COLOURS, dress, new_axes
from analysis.table import LABELS, rises
from scaling.arrays import FloatArray

__all__ = ["plot_latency"]


# Colour and marker of each family, colour-blind safe (Okabe and Ito).
_LOOKS = {
    "SUAN": ("#0072b2", "o"),
    "LightSUAN": ("#d55e00", "s"),
    "distilled LightSUAN": ("#009e73", "D"),
    "distilled SUAN": ("#cc79a7", "^"),
}
# Distances of a label from its point, in points; from the second on, a line connects them.
_DISTANCES = (7.0, 18.0, 30.0, 44.0, 60.0, 80.0, 105.0, 135.0)
_SIDES = (
    *((1, 0.4), (-1, 0.4), (1, -0.4), (-1, -0.4), (0, 1), (0, -1)),
    *((1, 1), (-1, 1), (1, -1), (-1, -1)),
)
_ALIGN = {-1: "right", 0: "center", 1: "left"}
_FONT = 7.5


def plot_latency(
    models: pd.DataFrame, metric: str, *, budget_ms: float = 10.0, ax: Axes | None = None
) -> Axes:
    """Plot a metric against p99 latency, one colour per family, the Pareto front and a budget.

    The models of the front and the best of each family are labelled; others only if there is room.

    Args:
        models: from `analysis.latency.served.served_models`.
        metric: its column.
        budget_ms: time budget of a request, ms.
        ax: axes to plot on; default: those of a new figure.
    """
    if ax is None:
        ax = new_axes()
    front = pareto_front(models, metric)
    end = max(float(models["p99_ms"].max()), budget_ms) * 1.5
    looks = _looks(models)
    for family, (colour, marker) in looks.items():
        part = models[models["family"] == family]
        ax.errorbar(
            part["p99_ms"], part[metric], yerr=part["stderr"].fillna(0.0), fmt=marker, color=colour,
            ms=6.5, mec="white", mew=0.6, elinewidth=1.0, capsize=2.0, label=family, zorder=3,
        )  # fmt: skip
    ax.step(
        [*front["p99_ms"], end], [*front[metric], front[metric].iloc[-1]], where="post",
        color="black", lw=1.0, ls="--", label="Pareto front", zorder=1,
    )  # fmt: skip
    ax.axvline(budget_ms, color=GREY, lw=1.2, ls=":", label=f"budget {budget_ms:g} ms", zorder=0)
    ax.set_xscale("log")
    ax.set_xlim(min(float(models["p99_ms"].min()), budget_ms) / 1.5, end)
    ax.margins(y=0.1)
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("p99 latency of a request (ms)")
    ax.set_ylabel(LABELS.get(metric, metric))
    title = best_under(models, metric, budget_ms).replace(" ms", "\u00a0ms")
    ax.set_title(textwrap.fill(title, 90), fontsize=9, loc="left")
    dress(ax)
    # Groups before lines, as in the other figures.
    handles, labels = ax.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: labels[i] not in looks)
    ax.legend(
        [handles[i] for i in order], [labels[i] for i in order], loc="upper left",
        bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9,
    )  # fmt: skip
    _label(ax, models, metric, set(front["model"]), looks)
    return ax


def _looks(models: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Colour and marker of each family that is there; of those without a colour of their own, in alphabetic order."""
    families = set(models["family"])
    known = {family: look for family, look in _LOOKS.items() if family in families}
    taken = {colour for colour, _ in known.values()}
    free = [colour for colour in MODEL_COLOURS if colour not in taken]
    others = sorted(families - set(known))
    return known | {
        family: (free[i % len(free)], MARKERS[(i + len(_LOOKS)) % len(MARKERS)])
        for i, family in enumerate(others)
    }


def _label(
    ax: Axes,
    models: pd.DataFrame,
    metric: str,
    front: set[str],
    looks: Mapping[str, tuple[str, str]],
) -> None:
    """Write the names of models where they overlap nothing; the front and the best of each family come first."""
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    if not hasattr(figure.canvas, "get_renderer"):
        FigureCanvasAgg(figure)
    # The positions of the points depend on the layout, so it comes first.
    figure.draw_without_rendering()
    scale = figure.dpi / 72
    points = ax.transData.transform(models[["p99_ms", metric]].to_numpy(float))
    taken = [Bbox.from_extents(*(p - 5 * scale), *(p + 5 * scale)) for p in points]
    best = models.sort_values(metric, ascending=not rises(metric)).drop_duplicates("family")[
        "model"
    ]
    wanted = models["model"].isin(front | set(best)).to_numpy()
    for i in [*np.flatnonzero(wanted), *np.flatnonzero(~wanted)]:
        name, family = textwrap.fill(models["model"].iloc[i], 34), str(models["family"].iloc[i])
        text = ax.text(0, 0, name, fontsize=_FONT)
        box = text.get_window_extent()
        text.remove()
        distances = _DISTANCES if wanted[i] else _DISTANCES[:2]
        for distance, (side, lift) in product(distances, _SIDES):
            offset = np.array([side * distance, lift * distance])
            place = _place(points[i] + offset * scale, box, side, lift)
            if not _is_inside(place, ax.bbox) or any(place.overlaps(other) for other in taken):
                continue
            if not wanted[i] and np.argmin(_gaps(place, points)) != i:
                continue  # it would look like the name of another point
            taken.append(place)
            arrow = {
                "arrowstyle": "-",
                "color": looks[family][0],
                "lw": 0.5,
                "shrinkB": 3,
                "shrinkA": 0,
            }
            ax.annotate(
                name, (models["p99_ms"].iloc[i], models[metric].iloc[i]), tuple(offset),
                textcoords="offset points", ha=_ALIGN[side], va=_vertical(lift), fontsize=_FONT,
                color=looks[family][0], zorder=4, path_effects=[withStroke(linewidth=2, foreground="white")],
                arrowprops=arrow if distance > _DISTANCES[0] else None,
            )  # fmt: skip
            break


def _vertical(lift: float) -> str:
    return "bottom" if lift > 0 else "top"


def _place(anchor: FloatArray, box: Bbox, side: int, lift: float) -> Bbox:
    """The box of a label on one side of an anchor, in pixels."""
    left = anchor[0] + {-1: -box.width, 0: -box.width / 2, 1: 0.0}[side]
    below = {"bottom": 0.0, "top": -box.height}[_vertical(lift)]
    return Bbox.from_bounds(left, anchor[1] + below, box.width, box.height)


def _gaps(place: Bbox, points: FloatArray) -> FloatArray:
    """(n,) distance of each point from a label, in pixels."""
    nearest = np.clip(points, (place.x0, place.y0), (place.x1, place.y1))
    return np.asarray(np.linalg.norm(points - nearest, axis=1))


def _is_inside(place: Bbox, frame: Bbox) -> bool:
    return bool(
        place.x0 >= frame.x0
        and place.x1 <= frame.x1
        and place.y0 >= frame.y0
        and place.y1 <= frame.y1
    )
