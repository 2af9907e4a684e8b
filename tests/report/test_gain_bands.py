"""The figure of compute-equivalent gains: what its curves, bands and marks stand for."""

from types import SimpleNamespace

import numpy as np

from analysis.gain import ComputeGains, Crossing, GainAt
from analysis.plots.gain_bands import plot_gains
from tests.support.figure_texts import words


def found(shares):
    gains = [
        GainAt("B", 10.0 ** (9 + i), 0.5, share, 0.5, 0.5, 1.0) for i, share in enumerate(shares)
    ]
    crossing = Crossing("B", (3e9, 1e9, np.inf), True, 1.0)
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


def law(status):
    return SimpleNamespace(
        status=status, success=status == "converged", law=SimpleNamespace(name="additive")
    )


def test_the_title_tells_the_share_at_the_largest_budget_of_the_runs_and_the_status():
    shares = [(0.5, 0.4, 0.6), (0.8, 0.5, 1.2)]
    ax = plot_gains(
        found(shares), "flops", "logloss", fits={"A": law("converged"), "B": law("converged")}
    )
    assert ax.get_title("left").splitlines() == [
        "B needs 0.8x [0.5, 1.2] of the 1e+10 flops of A for equal logloss",
        "additive law, converged",
    ]


def test_a_variant_whose_law_is_not_determined_is_named_and_dashed():
    fits = {"A": law("converged"), "B": law("not_identified")}
    ax = plot_gains(found([(0.5, 0.4, 0.6), (0.8, 0.5, 1.2)]), "flops", "logloss", fits=fits)
    assert ax.get_title("left").endswith(
        "A: additive law, converged; B: additive law, NOT IDENTIFIED"
    )
    assert next(line for line in ax.lines if line.get_label() == "B").get_linestyle() == "--"


def test_the_key_explains_band_shade_and_crossing():
    ax = plot_gains(found([(0.5, 0.4, 0.6), (0.8, 0.5, 1.2)]), "flops", "logloss")
    key = [words(text.get_text()) for text in ax.get_legend().get_texts()]
    assert key == [
        "B", "A (reference)", "equal at 3e+09 [1e+09, open]", "95 % interval", "beyond the runs",
    ]  # fmt: skip
