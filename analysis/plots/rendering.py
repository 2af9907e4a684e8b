"""A finished figure: PNG, SVG, what it shows and how to read it."""

import io
import re
from dataclasses import dataclass
from functools import cached_property

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.style import set_finding

__all__ = ["Picture", "picture_of"]


_DPI = 150
# Coordinates of paths; a hundredth of a point is finer than any screen.
_PATH, _LONG = re.compile(r'(?<=\bd=")[^"]*(?=")'), re.compile(r"(\d\.\d\d)\d+")


@dataclass(frozen=True)
class Picture:
    """A figure, which is rendered when its PNG or its SVG is asked for.

    Attributes:
        figure: the drawing.
        finding: what it shows, in one sentence without a full stop.
        caption: how to read it.
    """

    figure: Figure
    finding: str
    caption: str

    @cached_property
    def _laid_out(self) -> Figure:
        """The figure with its axes in their places, which takes as long as drawing it; once for both formats."""
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine(None)
        return self.figure

    @cached_property
    def png(self) -> bytes:
        """The image."""
        file = io.BytesIO()
        self._laid_out.savefig(file, format="png", dpi=_DPI)
        return file.getvalue()

    @cached_property
    def svg(self) -> str:
        """The drawing with texts as texts; the same figure gives the same characters."""
        file = io.StringIO()
        with rc_context({"svg.fonttype": "none", "svg.hashsalt": "ctr-scaling"}):
            self._laid_out.savefig(file, format="svg", metadata={"Date": None})
        return _PATH.sub(_shortened, file.getvalue())


def picture_of(
    drawn: Axes | Figure, finding: str, caption: str, *, is_titled: bool = False
) -> Picture:
    """Return a drawing with its finding as title.

    Args:
        drawn: the figure, or axes in it.
        finding: what it shows.
        caption: how to read it.
        is_titled: whether the drawing itself says the finding.
    """
    figure = drawn if isinstance(drawn, Figure) else drawn.get_figure(root=True)
    assert figure is not None
    if not is_titled:
        set_finding(figure, finding)
    return Picture(figure, finding, caption)


def _shortened(path: re.Match[str]) -> str:
    return _LONG.sub(r"\1", path[0])
