"""Figures of all kinds and many tables: texts that neither collide nor are cut off, colours that can be seen."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from slow_cases import fast_only

from analysis.budget import Cost, isoflop
from analysis.fit import fit_law
from analysis.gain import ComputeGains, Crossing, GainAt
from analysis.laws import Additive, Saturating
from analysis.plots import style
from analysis.plots.accuracy_latency import _LOOKS
from analysis.plots.budget_frontier import plot_frontier
from analysis.plots.gain_bands import plot_gains
from analysis.plots.held_out import _MISSED, plot_holdout
from analysis.plots.isoflop_profiles import plot_isoflop
from analysis.plots.law_curves import plot_curves
from analysis.plots.residuals import plot_residuals
from analysis.plots.study.single_size import plot_size
from analysis.study_results import holdout
from analysis.table import size_of
from tests.support.figure_texts import colliding, cut_off, figure_of

LAWS = {
    "small": {"E": 0.4, "A": 2.0, "B": 3.0, "alpha": 0.25, "beta": 0.3},
    "large": {"E": 1.7, "A": 400.0, "B": 400.0, "alpha": 0.34, "beta": 0.28},
    "steep": {"E": 0.1, "A": 9000.0, "B": 3.0, "alpha": 0.9, "beta": 0.1},
}


def grid(law, n_sizes, n_data, *, low=1e4, high=1e8):
    n, d = (
        a.ravel()
        for a in np.meshgrid(np.geomspace(low, high, n_sizes), np.geomspace(1e5, 1e9, n_data))
    )
    n, d = np.tile(n, 2), np.tile(d, 2)
    values = Additive()(LAWS[law], n, d) + np.random.default_rng(0).normal(0, 1e-3, len(n))
    return pd.DataFrame({"n_params": n, "n_samples": d, "flops": 6 * n * d, "loss": values})


def budgets(law, n_budgets):
    c = np.geomspace(1e15, 1e19, n_budgets)
    middle = Additive()
    n = np.concatenate([np.sqrt(one / 6 / 20) * np.geomspace(1 / 12, 12, 9) for one in c])
    c = np.repeat(c, 9)
    values = middle(LAWS[law], n, c / 6 / n) + np.random.default_rng(0).normal(0, 1e-3, len(n))
    return pd.DataFrame({"n_params": n, "n_samples": c / 6 / n, "flops": c, "loss": values})


TABLES = {
    "three by three": grid("small", 3, 3),
    "seven by five": grid("large", 7, 5),
    "twelve by four": grid("steep", 12, 4),
    "narrow": grid("small", 4, 4, low=1e6, high=3e6),
    "budgets": budgets("large", 4),
}
KINDS = ("n_samples", "n_params", "distance", "residuals", "frontier", "holdout")


@pytest.fixture(scope="module", params=fast_only(["seven by five"], TABLES))
def table(request):
    return TABLES[request.param]


@pytest.fixture(scope="module")
def fit(table):
    return fit_law(Additive(), table, y="loss")


@pytest.fixture(scope="module")
def held_out(table):
    return holdout([Additive()], table, y="loss")


def draw(kind, table, fit, held_out):
    if kind in ("n_samples", "n_params"):
        return plot_curves(table, fit, y="loss", x=kind, truth=fit.params["E"] + 0.01)
    if kind == "distance":
        return plot_curves(table, fit, y="loss", minus=fit.params["E"])
    if kind == "residuals":
        return plot_residuals(fit)
    if kind == "frontier":
        return plot_frontier(fit, Cost("flops", 6.0, 1.0))
    return plot_holdout(held_out, y="loss", whole=fit)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_neither_collide_nor_are_cut_off(kind, table, fit, held_out):
    figure = figure_of(draw(kind, table, fit, held_out))
    assert (colliding(figure), cut_off(figure)) == ([], [])


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_an_undetermined_fit_neither_collide_nor_are_cut_off(kind):
    table = TABLES["three by three"]
    fit = fit_law(Additive(), table, y="loss")
    doubtful = replace(fit, status="not_identified", unidentified=("E", "alpha", "beta"))
    figure = figure_of(draw(kind, table, doubtful, holdout([Additive()], table, y="loss")))
    assert (colliding(figure), cut_off(figure)) == ([], [])


@pytest.mark.parametrize("status", ["converged", "not_identified"])
def test_texts_of_a_law_of_one_size_neither_collide_nor_are_cut_off(status):
    c = np.geomspace(1e15, 1e19, 7)
    table = pd.DataFrame({"flops": c, "loss": 1.7 + 2e3 * c**-0.2})
    table["loss"] += np.random.default_rng(0).normal(0, 1e-3, 7)
    fit = replace(fit_law(Saturating(), table, x="flops", y="loss"), status=status)
    size = size_of("flops", foreign=True)
    rows = holdout([Saturating()], table, x="flops", y="loss", cuts=["size"])
    drawn = [
        plot_size(fit, size),
        plot_size(fit, size, minus=fit.params["E"]),
        plot_residuals(fit, sizes=[size]),
        plot_holdout(rows, law="saturating", y="loss", sizes=[size], whole=fit),
    ]
    figures = [figure_of(one) for one in drawn]
    assert [(colliding(one), cut_off(one)) for one in figures] == [([], [])] * 4


def test_every_contour_that_is_drawn_has_its_label(fit):
    ax = plot_frontier(fit, Cost("flops", 6.0, 1.0))
    contours = ax.collections[0]
    assert {float(text.get_text()) for text in contours.labelTexts} == set(contours.levels)
    assert len(contours.levels) >= 4


@pytest.mark.parametrize("n_budgets", fast_only([7], [4, 7, 20]))
@pytest.mark.parametrize("skew_p", [0.5, 1e-5])
def test_no_texts_of_profiles_collide(n_budgets, skew_p):
    found = replace(isoflop(budgets("large", n_budgets), "loss", n_draws=20), skew_p=skew_p)
    figure = figure_of(plot_isoflop(found, "loss", size_of("n_params")))
    assert (colliding(figure), cut_off(figure)) == ([], [])


@pytest.mark.parametrize("reach", [1.1, 3.0, 1e3])
def test_no_texts_of_gains_collide(reach):
    at = np.geomspace(1e15, 1e19, 9)
    shares = np.geomspace(1.2, 1.2 / reach, 9)
    gains = [
        GainAt("packing=request", c, 0.5, (s, s / 1.1, s * 1.1), 0.9, 0.9, 1.0)
        for c, s in zip(at, shares, strict=True)
    ]
    crossing = Crossing("packing=request", (3e16, 1e16, 9e16), True, 1.0)
    found = ComputeGains(
        "packing=none", (1e15, 1e18), tuple(gains), (crossing,), {"packing=request": 0.5}, 0.95
    )
    figure = figure_of(plot_gains(found, "flops", "logloss"))
    assert (colliding(figure), cut_off(figure)) == ([], [])


def contrast_on_white(colour):
    """Contrast ratio of WCAG 2.1."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return 1.05 / (float(linear @ [0.2126, 0.7152, 0.0722]) + 0.05)


COLOURS = [
    style.GREY, style.DOUBTFUL, style.WARNING, style.ACCENT, _MISSED,
    *(colour for colour, _ in _LOOKS.values()),
]  # fmt: skip


@pytest.mark.parametrize("colour", COLOURS)
def test_a_colour_of_lines_and_markers_is_seen_on_white(colour):
    assert contrast_on_white(colour) >= 3.0


@pytest.mark.parametrize("n", [1, 2, 5, 8, 50])
def test_every_colour_of_a_group_is_seen_on_white(n):
    assert min(contrast_on_white(style.colour_of(i, n)[:3]) for i in range(n)) >= 3.0


# Linear RGB as people with the most common colour deficiencies see it (Machado et al. 2009, severity 1).
_SEEN = {
    "normal": np.eye(3),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
}


@pytest.mark.parametrize("eyes", list(_SEEN))
def test_neighbours_of_five_groups_differ_for_all_eyes(eyes):
    """At least 10 in CIE Lab, five times a just noticeable difference."""
    labs = [_lab(style.colour_of(i, 5)[:3], _SEEN[eyes]) for i in range(5)]
    assert min(np.linalg.norm(np.diff(labs, axis=0), axis=1)) >= 10


def _lab(colour, seen):
    rgb = np.array(colour)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    white = [0.9505, 1.0, 1.089]
    x, y, z = np.cbrt(np.clip(to_xyz @ np.clip(seen @ linear, 0, 1) / white, 1e-6, None))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
