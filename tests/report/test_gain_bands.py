"""The figure of compute-equivalent gains: what its curves, bands and marks stand for."""

import numpy as np

from analysis.gain import ComputeGains, Crossing, GainAt
from analysis.plots.gain_bands import plot_gains


def found(shares):
    gains = [
        GainAt("B", 10.0 ** (9 + i), 0.5, share, 0.5, 0.5, 1.0) for i, share in enumerate(shares)
    ]
    crossing = Crossing("B", (3e9, 1e9, 0.0), True, 1.0)
    return ComputeGains("A", (1e9, 1e11), tuple(gains), (crossing,), {"B": 0.5}, 0.95)


def test_a_curve_goes_through_the_shares():
    shares = [(0.5, 0.4, 0.6), (0.8, 0.5, 1.2), (1.5, 0.6, np.inf)]
    ax = plot_gains(found(shares), "flops", "logloss")
    curve = next(line for line in ax.lines if line.get_label() == "B")
    assert list(curve.get_ydata()) == [0.5, 0.8, 1.5]


def test_a_share_that_is_never_reached_ends_the_curve():
    ax = plot_gains(found([(0.5, 0.4, 0.6), (np.inf, 0.5, np.inf)]), "flops", "logloss")
    curve = next(line for line in ax.lines if line.get_label() == "B")
    assert np.isnan(curve.get_ydata()[1])


def test_an_open_band_leaves_the_scale_readable():
    ax = plot_gains(found([(0.5, 0.4, 0.6), (0.5, 0.0, np.inf)]), "flops", "logloss")
    assert ax.get_ylim() == (1e-2, 1e2)


def test_a_crossing_stands_where_both_need_the_same():
    ax = plot_gains(found([(0.5, 0.4, 0.6), (0.8, 0.5, 1.2)]), "flops", "logloss")
    assert [3e9, 1.0] in [[*line.get_xdata(), *line.get_ydata()] for line in ax.lines]
