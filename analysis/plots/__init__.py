"""Figures: each function takes Axes and returns Axes; only `figures` turns them into PNG bytes.

Not here: the report, or any file.
"""

from analysis.plots.figures import (
    KINDS,
    Picture,
    draw_ageing,
    draw_figures,
    draw_gains,
    draw_latency,
    draw_learned,
    draw_race,
)

__all__ = [
    "KINDS",
    "Picture",
    "draw_ageing",
    "draw_figures",
    "draw_gains",
    "draw_latency",
    "draw_learned",
    "draw_race",
]
