"""The common style of all figures: axes, colours, markers, tick labels."""

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["dress", "new_axes"]


MARKERS = "osD^vP*X<>"
GREY = "#666666"


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


def dress(ax: Axes) -> None:
    """Set the spines and the grid of a figure."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(True, color="#dddddd", lw=0.6)
    ax.set_axisbelow(True)
