"""The figures of a study's fits, by kind: `KINDS` of laws of two sizes, `draw_single` of laws of one.

Not here: how a figure is drawn (the modules of `analysis.plots`).
"""

from analysis.plots.study.kinds import KINDS, Drawn
from analysis.plots.study.single_size import draw_single

__all__ = ["KINDS", "Drawn", "draw_single"]
