"""What all figures share: axes, colours, markers, labels."""

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["dress", "new_axes"]


MARKERS = "osD^vP*X<>"
GREY = "#666666"


def new_axes() -> Axes:
    """A figure of its own with one Axes."""
    # Outside pyplot, so that nobody has to close it.
    return Figure(figsize=(7.2, 4.4), layout="constrained").subplots()


def colour_of(i: int, n: int) -> tuple[float, float, float, float]:
    # Viridis without its palest end, which vanishes on white.
    return colormaps["viridis"](0.0 if n == 1 else 0.88 * i / (n - 1))


def plain(value: float, _position: float = 0.0) -> str:
    """Tick labels 0.2, 0.1, 0.05, ... of a logarithmic axis; the crowded ones stay empty."""
    digit = f"{value:e}"[0]
    return f"{value:g}" if digit in "12357" else ""


def dress(ax: Axes) -> None:
    """Spines and grid as all figures have them."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(True, color="#dddddd", lw=0.6)
    ax.set_axisbelow(True)
