"""Figures of the runs themselves: training curves and calibration.

Not here: fitted laws (`analysis.plots.study`).
"""

from analysis.plots.training.calibration import calibration_finding, plot_calibration
from analysis.plots.training.training_curves import curves_finding, plot_training

__all__ = ["calibration_finding", "curves_finding", "plot_calibration", "plot_training"]
