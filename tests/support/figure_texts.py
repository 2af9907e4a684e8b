"""The texts of a figure and their boxes, after its layout."""

from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


def figure_of(drawn: Axes | Figure) -> Figure:
    """The figure, laid out."""
    figure = drawn if isinstance(drawn, Figure) else drawn.get_figure(root=True)
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    return figure


def texts_of(figure: Figure) -> list[Text]:
    """All texts that are seen."""
    found = list(figure.texts)
    for ax in figure.axes:
        found += [ax.title, *_side_titles(ax), ax.xaxis.label, ax.yaxis.label, *ax.texts]
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            found += [
                label
                for tick in ticks
                if low <= tick.get_loc() <= high
                for label in (tick.label1, tick.label2)
            ]
        legend = ax.get_legend()
        if legend is not None:
            found += [legend.get_title(), *legend.get_texts()]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def _side_titles(ax: Axes) -> list[Text]:
    return [ax._left_title, ax._right_title]  # matplotlib gives only their strings


def colliding(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes overlap by more than rounding; the figure is laid out."""
    boxes = [(text.get_text(), text.get_window_extent().padded(-0.5)) for text in texts_of(figure)]
    return [
        (one, other)
        for (one, own), (other, theirs) in combinations(boxes, 2)
        if own.overlaps(theirs)
    ]


def cut_off(figure: Figure) -> list[str]:
    """Texts that do not lie within the figure, which is laid out."""
    frame = figure.bbox.padded(1)
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts_of(figure)]
    return [
        text for text, box in boxes if not (frame.contains(*box.min) and frame.contains(*box.max))
    ]


def words(text: str) -> str:
    """A text without its line breaks."""
    return " ".join(text.split())
