"""The figure of a race: the metric of all variants against the cost of training.

Not here: the share of the compute that a variant needs (`analysis.plots.gain_bands`).
"""

from analysis.plots.contest.race_curves import plot_race

__all__ = ["plot_race"]
