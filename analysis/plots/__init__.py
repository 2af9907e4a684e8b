"""Figures: each function takes Axes and returns Axes; only `figures` turns them into PNG and SVG.

Not here: the report, or any file.
"""

from analysis.plots.figures import (
    draw_ageing,
    draw_calibration,
    draw_figures,
    draw_gains,
    draw_latency,
    draw_learned,
    draw_race,
    draw_training,
)
from analysis.plots.rendering import Picture
from analysis.plots.study import KINDS

__all__ = [
    "KINDS",
    "Picture",
    "draw_ageing",
    "draw_calibration",
    "draw_figures",
    "draw_gains",
    "draw_latency",
    "draw_learned",
    "draw_race",
    "draw_training",
]
