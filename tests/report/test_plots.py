"""Figures: what they draw, and that they leave nothing open."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from analysis.budget import Cost, isoflop
from analysis.fit import FitOptions, fit_law
from analysis.laws import Additive, Saturating
from analysis.laws.two_axes import Multiplicative
from analysis.plots.budget_frontier import plot_frontier
from analysis.plots.held_out import plot_holdout
from analysis.plots.isoflop_profiles import plot_isoflop
from analysis.plots.law_curves import plot_curves
from analysis.plots.residuals import plot_residuals
from analysis.plots.style import law_facts
from analysis.study_results import holdout
from analysis.table import size_label, size_of
from analysis.uncertainty import format_estimate
from tests.support.figure_texts import figure_of, words

PARAMS = {"E": 0.4, "A": 2.0, "B": 3.0, "alpha": 0.25, "beta": 0.3}


@pytest.fixture(scope="module")
def table():
    sizes, data = [2e3, 1e4, 4e4, 1e5], [4096, 16384, 65536, 262144]
    rows = [
        {"grade": f"SUAN-{i}", "n_params": n, "flops_per_sample": 20 * n, "n_samples": d, "seed": s}
        for i, n in enumerate(sizes)
        for d in data
        for s in range(2)
    ]
    table = pd.DataFrame(rows)
    noise = np.random.default_rng(0).normal(0, 1e-3, len(table))
    table["logloss"] = Additive()(PARAMS, table["n_params"], table["n_samples"]) + noise
    table["auc"] = 1.3 - table["logloss"]
    return table


@pytest.fixture(scope="module")
def fit(table):
    return fit_law(Additive(), table)


def labels(ax):
    return [words(text.get_text()) for text in ax.get_legend().get_texts()]


def test_a_figure_of_its_own_is_not_left_open(table, fit):
    ax = plot_curves(table, fit, y="logloss")
    assert isinstance(ax, Axes)
    assert plt.get_fignums() == []


def test_given_axes_are_used(table, fit):
    figure, axes = plt.subplots(1, 2)
    assert plot_curves(table, fit, y="logloss", ax=axes[0]) is axes[0]
    assert plot_residuals(fit, ax=axes[1]) is axes[1]
    plt.close(figure)


def test_a_curve_follows_a_size_that_grows_along_the_axis():
    """Training FLOPs grow with the data, so the curve of a grade passes through its points."""
    n, d = (a.ravel() for a in np.meshgrid([1e3, 1e4, 1e5], [1e4, 1e5, 1e6]))
    table = pd.DataFrame({"grade": n.astype(int).astype(str), "flops": 6 * n * d, "n_samples": d})
    table["logloss"] = Additive()(PARAMS, table["flops"], d)
    fit = fit_law(Additive(), table, x="flops")
    ax = plot_curves(table, fit, y="logloss", size="flops")
    solid = [line for line in ax.lines if line.get_linestyle() == "-" and len(line.get_xdata()) > 9]
    grades = table.sort_values("flops").groupby("grade", sort=False)
    assert len(solid) == len(grades)
    for line, (_, part) in zip(solid, grades, strict=True):
        # the curve is drawn at 120 places, between which it is read off linearly
        drawn = np.interp(np.log(part["n_samples"]), np.log(line.get_xdata()), line.get_ydata())
        np.testing.assert_allclose(drawn, part["logloss"], atol=1e-3)


def test_one_colour_and_marker_per_grade(table, fit):
    ax = plot_curves(table, fit, y="logloss")
    containers = ax.containers
    assert [c.get_label() for c in containers] == ["SUAN-0", "SUAN-1", "SUAN-2", "SUAN-3"]
    points = [c.lines[0] for c in containers]
    assert len({p.get_color() for p in points}) == 4
    assert len({p.get_marker() for p in points}) == 4


def test_curves_are_dashed_beyond_the_largest_size_and_shaded(table, fit):
    ax = plot_curves(table, fit, y="logloss")
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert len(dashed) == 4
    assert all(line.get_xdata().min() == pytest.approx(262144, rel=0.04) for line in dashed)
    assert any(text.get_text() == "extrapolated" for text in ax.texts)
    assert ax.get_xscale() == "log"


def test_the_curve_is_the_law(table, fit):
    ax = plot_curves(table, fit, y="logloss", x="n_params")
    solid = next(line for line in ax.lines if len(line.get_xdata()) > 50)
    x, y = solid.get_data()
    np.testing.assert_allclose(y, fit.predict(x, np.full(len(x), 4096.0)))


def test_limits_are_named_in_the_legend(table, fit):
    texts = labels(plot_curves(table, fit, y="logloss", truth=0.42))
    assert "fitted $E$" in texts
    assert "true probabilities' logloss 0.4200" in texts


def test_a_rising_metric_lists_its_best_group_first(table):
    fit = fit_law(Additive(rising=True), table, y="auc")
    ax = plot_curves(table, fit, y="auc")
    assert labels(ax)[:4] == ["SUAN-3", "SUAN-2", "SUAN-1", "SUAN-0"]


def test_distance_to_the_offset_is_on_logarithmic_axes(table, fit):
    ax = plot_curves(table, fit, y="logloss", minus=0.3)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert "0.3000" in ax.get_ylabel()


def test_flops_axis_follows_the_ladder(table, fit):
    ax = plot_curves(table, fit, y="logloss", x="flops_per_sample")
    x, y = next(line for line in ax.lines if len(line.get_xdata()) > 50).get_data()
    # The ladder here is exactly 20 FLOPs per parameter.
    np.testing.assert_allclose(y, fit.predict(x / 20, np.full(len(x), 4096.0)), rtol=1e-9)


def test_curves_of_single_groups_can_be_drawn(table):
    fits = {
        grade: fit_law(Saturating(), part, x="n_samples") for grade, part in table.groupby("grade")
    }
    ax = plot_curves(table, fits, y="logloss")
    assert sum(line.get_linestyle() == "--" for line in ax.lines) == 4


def test_a_fit_without_a_curve_leaves_the_points(table):
    none = fit_law(Additive(), table[table["n_params"] == 2e3])
    ax = plot_curves(table, none, y="logloss")
    assert len(ax.containers) == 4
    assert not [line for line in ax.lines if line.get_linestyle() == "--"]
    with pytest.raises(ValueError, match="with a curve"):
        plot_residuals(none)


def test_a_table_without_grades_is_grouped_by_size(table, fit):
    ax = plot_curves(table.drop(columns="grade"), fit, y="logloss")
    assert labels(ax)[:4] == ["2k", "10k", "40k", "100k"]


def test_residual_map_shows_every_cell_in_noise_units(fit):
    ax = plot_residuals(fit)
    shown = [float(text.get_text()) for text in ax.texts]
    assert len(shown) == 16
    scaled = fit.cells["residual"] * np.sqrt(2) / fit.noise.sd
    np.testing.assert_allclose(sorted(shown), sorted(scaled), atol=0.0501)


def test_scattered_sizes_get_a_scatter_of_residuals():
    rng = np.random.default_rng(1)
    table = pd.DataFrame(10 ** rng.uniform(4, 7, (40, 2)), columns=["n_params", "n_samples"])
    table["logloss"] = Additive()(PARAMS, table["n_params"], table["n_samples"])
    table["logloss"] += rng.normal(0, 1e-3, 40)
    ax = plot_residuals(fit_law(Additive(), table))
    assert len(ax.collections[0].get_offsets()) == 40


@pytest.mark.parametrize(
    ("value", "text"),
    [(4096, "4.1k"), (65536, "65.5k"), (999.9, "1k"), (131072, "131k"), (2e9, "2B"), (50, "50"),
     (999_900, "1M"), (1.3e6, "1.3M"), (2e14, "200T"), (1e15, "1e+15"), (3.16e18, "3.16e+18")],
)  # fmt: skip
def test_sizes_are_printed_in_two_or_three_digits(value, text):
    assert size_label(value) == text


def test_the_frontier_runs_through_the_best_splits(fit):
    cost = Cost("flops", 6.0, 1.0)
    ax = plot_frontier(fit, cost)
    line = next(line for line in ax.lines if line.get_label() == "best split")
    n, d = (values[6] for values in line.get_data())
    along = cost.samples(6 * n * d, n * np.array([0.5, 1.0, 2.0]))
    values = fit.predict(n * np.array([0.5, 1.0, 2.0]), along)
    assert values[1] == values.min()
    runs = next(line for line in ax.lines if line.get_label() == "runs")
    assert len(runs.get_xdata()) == 16


def test_a_law_without_a_best_split_has_no_frontier(table):
    fit = fit_law(Multiplicative(), table, options=FitOptions(interval="none"))
    ax = plot_frontier(fit, Cost("flops", 6.0, 1.0))
    assert "best split" not in [line.get_label() for line in ax.lines]


def test_axes_name_the_columns_of_a_foreign_table(table):
    foreign = table.rename(columns={"n_params": "compute", "n_samples": "tokens"})
    foreign = foreign.drop(columns=["grade", "flops_per_sample"])
    fit = fit_law(Additive(), foreign, x="compute", data="tokens")
    ax = plot_curves(foreign, fit, y="logloss", x="tokens", size="compute", data="tokens")
    assert (ax.get_xlabel(), ax.get_legend().get_title().get_text()) == ("tokens", "compute")
    ax = plot_frontier(fit, Cost("flops", 6.0, 1.0))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("compute", "tokens")
    ax = plot_residuals(fit)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("tokens", "compute")


def test_training_flops_as_size_are_not_called_parameters(table):
    with_flops = table.assign(flops=60 * table["n_params"])
    fit = fit_law(Additive(), with_flops, x="flops")
    assert plot_frontier(fit, Cost("flops", 6.0, 1.0)).get_xlabel() == "training FLOPs $C$"


@pytest.fixture(scope="module")
def doubtful(fit):
    return replace(fit, status="not_identified", unidentified=("beta",))


def test_the_title_names_law_and_status(table, fit):
    title = plot_curves(table, fit, y="logloss").get_title("left")
    assert title.splitlines()[0] == "additive law, converged"


def test_the_caption_gives_the_interval_of_the_offset(fit):
    assert law_facts(fit).startswith(f"E = {fit.estimate('E')}; ")


def test_r_squared_never_stands_without_what_it_does_not_test(fit):
    facts = law_facts(fit)
    assert f"R² of logloss = {fit.r_squared:.4f}, 16 cells: no test of E or form" in facts


def test_r_squared_of_few_cells_says_little(fit):
    assert "says little: 7 cells, 5 free parameters" in law_facts(replace(fit, n_cells=7))


def test_the_title_tells_a_lack_of_fit(fit):
    lacking = replace(
        fit, notes=("lack of fit: residuals exceed the seeds' noise (F = 9.0, p = 0.001); more",)
    )
    last = plot_residuals(lacking).get_title("left").splitlines()[-1]
    assert last == "LACK OF FIT: residuals exceed the seeds' noise"


def test_the_title_of_an_undetermined_fit_is_red(table, fit, doubtful):
    colours = [plot_residuals(one)._left_title.get_color() for one in (fit, doubtful)]
    assert colours == ["black", "#a11d33"]


def test_curves_of_an_undetermined_fit_are_grey_and_dashed_and_the_title_says_so(table, doubtful):
    ax = plot_curves(table, doubtful, y="logloss")
    curves = [line for line in ax.lines if len(line.get_xdata()) > 50]
    assert {(line.get_color(), line.get_linestyle()) for line in curves} == {("#8c8c8c", "--")}
    assert "NOT IDENTIFIED (beta)" in ax.get_title("left")


def test_contours_of_an_undetermined_fit_are_grey(doubtful):
    ax = plot_frontier(doubtful, Cost("flops", 6.0, 1.0))
    assert {to_hex(colour) for colour in ax.collections[0].get_edgecolor()} == {"#8c8c8c"}


def test_an_offset_far_from_the_points_does_not_stretch_the_axis(table, fit):
    far = replace(fit, params=fit.params | {"E": fit.params["E"] - 1.0})
    low, _ = plot_curves(table, far, y="logloss").get_ylim()
    assert low > fit.params["E"] - 0.2


def test_bands_do_not_set_the_range_of_a_distance(table, fit):
    ax = plot_curves(table, fit, y="logloss", minus=float(table["logloss"].min()) - 0.01)
    low, _ = ax.get_ylim()
    assert low > 1e-3


def test_cells_beyond_the_offset_are_counted_in_the_title(table, fit):
    middle = float(table["logloss"].median())
    title = plot_curves(table, fit, y="logloss", minus=middle).get_title("left")
    below = int((table.groupby(["n_params", "n_samples"])["logloss"].mean() <= middle).sum())
    assert f"{below} of 16 cells lie beyond" in title


def test_every_contour_has_its_label(fit):
    ax = plot_frontier(fit, Cost("flops", 6.0, 1.0))
    contours = ax.collections[0]
    assert {float(text.get_text()) for text in contours.labelTexts} == set(contours.levels)


def test_many_groups_have_a_colour_bar_instead_of_a_legend():
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(1e3, 1e6, 10), [1e4, 1e5, 1e6]))
    many = pd.DataFrame({"n_params": n, "n_samples": d, "logloss": Additive()(PARAMS, n, d)})
    ax = plot_curves(many, y="logloss")
    assert ax.get_legend() is None
    bar = ax.figure.axes[1]
    assert bar.get_ylabel() == "parameters $N$"
    assert [text.get_text() for text in bar.get_yticklabels()][::9] == ["1k", "1M"]


@pytest.fixture(scope="module")
def held_out(table):
    return holdout([Additive()], table)


def test_each_cut_has_a_panel_of_its_own(held_out):
    figure = plot_holdout(held_out)
    assert [ax.get_title("left") for ax in figure.axes] == [
        "held out: largest data size",
        "held out: largest model",
        "held out: largest data size and largest model",
    ]


def test_held_out_cells_of_one_size_are_named_by_its_column(table):
    rows = holdout([Saturating()], table, x="n_samples", cuts=["size"])
    figure = plot_holdout(rows, law="saturating", sizes=[size_of("n_samples", foreign=True)])
    assert figure.axes[0].get_title("left") == "held out: largest samples"


@pytest.mark.parametrize("copies", [1, 20])
def test_held_out_cells_never_cover_each_other(held_out, copies):
    figure = figure_of(plot_holdout(pd.concat([held_out] * copies)))
    for ax in figure.axes:
        points = [c.lines[0] for c in ax.containers]
        places = np.sort(np.concatenate([point.get_xdata() for point in points]))
        gaps = np.diff(ax.transData.transform(np.column_stack([places, places]))[:, 0])
        assert gaps.min() > max(p.get_markersize() for p in points) * figure.dpi / 72


def test_the_title_of_held_out_cells_tells_the_status_of_the_fit_to_all(held_out, fit, doubtful):
    titles = [plot_holdout(held_out, whole=one).get_suptitle() for one in (fit, doubtful)]
    assert titles[0].endswith("fit to all cells: converged")
    assert titles[1].endswith("fit to all cells: NOT IDENTIFIED (beta)")


def test_the_title_of_held_out_cells_counts_those_of_each_cut(held_out):
    title = " ".join(plot_holdout(held_out).get_suptitle().split())
    assert len(set(held_out["cut"])) > 1
    for _, part in held_out.groupby("cut"):
        hits = int((part["inside"] == 1.0).sum())
        assert f" {hits} of {len(part)} (" in title


def test_a_group_is_dashed_from_its_own_largest_size(table, fit):
    part = table[(table["grade"] != "SUAN-3") | (table["n_samples"] < 2e4)]
    ax = plot_curves(part, fit, y="logloss")
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert dashed[-1].get_xdata().min() == 16384


def test_scattered_residuals_have_a_key_for_the_model_size():
    rng = np.random.default_rng(1)
    table = pd.DataFrame(10 ** rng.uniform(4, 7, (40, 2)), columns=["params", "tokens"])
    table["loss"] = Additive()(PARAMS, table["params"], table["tokens"]) + rng.normal(0, 1e-3, 40)
    ax = plot_residuals(fit_law(Additive(), table, x="params", data="tokens", y="loss"))
    assert ax.figure.axes[1].get_ylabel() == "params"


def test_without_a_curve_nothing_is_shaded_as_extrapolated(table):
    none = fit_law(Additive(), table[table["n_params"] == 2e3])
    ax = plot_curves(table, none, y="logloss")
    assert not ax.texts
    assert ax.get_title("left") == "additive law: too few points, no curve"


def profiles(n_budgets):
    n, c = (
        a.ravel()
        for a in np.meshgrid(np.geomspace(1e5, 1e8, 20), np.geomspace(1e14, 1e17, n_budgets))
    )
    loss = Additive()(PARAMS, n, c / 6 / n)
    rows = pd.DataFrame({"n_params": n, "n_samples": c / 6 / n, "flops": c, "loss": loss})
    return isoflop(rows, "loss", n_draws=10)


def test_the_key_of_many_budgets_names_some_of_them():
    found = profiles(40)
    key = plot_isoflop(found, "loss", size_of("n_params")).axes[1].get_legend()
    assert len([text for text in key.get_texts() if "e+" in text.get_text()]) == 8 + 1  # and N*(C)
    assert f"1 of {-(-len(found.used) // 8)} budgets on the left" in key.get_title().get_text()


def test_sizes_far_from_the_best_are_open_and_the_key_says_why():
    found = profiles(5)
    figure = plot_isoflop(found, "loss", size_of("n_params"))
    lines = [line for line in figure.axes[0].get_lines() if line.get_gid() == "not fitted"]
    n_far = sum(int((~profile.near).sum()) for profile in found.used)
    assert sum(len(line.get_xdata()) for line in lines) == n_far > 0
    assert {line.get_markerfacecolor() for line in lines} == {"white"}
    assert "open: too far from it, not fitted" in labels(figure.axes[1])


def test_the_second_panel_has_the_best_sizes_and_their_power_law():
    found = profiles(5)
    ax = plot_isoflop(found, "loss", size_of("n_params")).axes[1]
    curve = next(
        line for line in ax.get_lines() if line.get_linestyle() == "-" and len(line.get_xdata()) > 9
    )
    np.testing.assert_allclose(curve.get_ydata(), [found.size(c) for c in curve.get_xdata()])
    stars = next(line for line in ax.get_lines() if line.get_marker() == "*")
    np.testing.assert_allclose(stars.get_ydata(), [p.best_size for p in found.used])


def test_the_title_of_the_profiles_states_the_exponent_with_its_interval():
    found = profiles(5)
    title = plot_isoflop(found, "loss", size_of("n_params")).get_suptitle()
    estimate = format_estimate(found.size.exponent, found.size.interval)
    assert title.startswith(f"$N^*$ ∝ $C^a$ with a = {estimate}: approach 2")


def test_skewed_profiles_are_marked():
    figure = plot_isoflop(replace(profiles(5), skew_p=1e-4), "loss", size_of("n_params"))
    assert "SKEWED" in figure.get_suptitle()
