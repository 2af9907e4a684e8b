"""Intervals: what they mean, how often they contain the truth, and that the noise checks can fail."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.fit import FitOptions, fit_law
from analysis.laws import Additive, Saturating
from analysis.optimum import Problem
from analysis.uncertainty import outlier
from analysis.uncertainty.noise import estimate_noise

ALPHA, OFFSET, AMPLITUDE, SEEDS = 0.3, 0.4, 0.1, 3
# One run's noise such that a cell's mean is off by 1 % of the amplitude.
NOISE = 0.01 * AMPLITUDE * np.sqrt(SEEDS)


def world(n=4, decades=3.0):
    sizes = np.geomspace(1e5, 1e5 * 10**decades, n)
    n_params, n_samples, seed = (a.ravel() for a in np.meshgrid(sizes, sizes, range(SEEDS)))
    table = pd.DataFrame({"n_params": n_params, "n_samples": n_samples, "seed": seed})
    scale = AMPLITUDE * (1e5 * 10 ** (decades / 2)) ** ALPHA
    params = {"E": OFFSET, "A": scale, "B": scale, "alpha": ALPHA, "beta": ALPHA}
    return table, params, Additive()(params, n_params, n_samples)


def coverage(n_worlds, column_noise=0.0, run_noise=0.0):
    """Shares of worlds whose intervals contain the truth, with and without shared errors; share of worlds with a shared shift found."""
    table, params, mean = world()
    rng = np.random.default_rng(17)
    held, naive = (dict.fromkeys(("E", "alpha", "beta"), 0) for _ in range(2))
    found = 0
    columns = pd.Categorical(table["n_samples"]).codes
    run = table.groupby(["n_params", "seed"]).ngroup().to_numpy()
    if run_noise:
        table["trajectory"] = run
    for _ in range(n_worlds):
        shared = rng.normal(0, column_noise, columns.max() + 1)[columns]
        shared += rng.normal(0, run_noise, run.max() + 1)[run]
        table["y"] = mean + shared + rng.normal(0, NOISE, len(table))
        fit = fit_law(Additive(), table, y="y")
        found += any("equal n_samples deviate together" in note for note in fit.notes)
        own = fit.parts[0]
        for name in held:
            i = fit.law.names.index(name)
            half = stats.t.ppf(0.975, own.dof) * np.sqrt(max(own.covariance[i, i], 0))
            held[name] += params[name] in fit.intervals[name]
            naive[name] += abs(fit.params[name] - params[name]) <= half
    return *({n: c / n_worlds for n, c in d.items()} for d in (held, naive)), found / n_worlds


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
    shares, _, found = coverage(70)
    # 95 % nominal; below 86 % of 70 worlds has a chance of 0.2 % for each parameter.
    assert min(shares.values()) >= 0.86
    assert found <= 0.12


@pytest.mark.slow
def test_a_training_subset_shared_by_a_column_is_reported_and_widens_them():
    shares, naive, found = coverage(40, column_noise=NOISE)
    # The negative control: intervals that assume independent errors of all runs.
    assert naive["beta"] < 0.75
    assert found >= 0.4
    assert shares["beta"] >= naive["beta"] + 0.1
    assert shares["alpha"] >= 0.85


@pytest.mark.slow
def test_runs_that_serve_every_data_size_are_allowed_for():
    shares, _, _ = coverage(40, run_noise=NOISE)
    # 95 % nominal; below 83 % of 40 worlds has a chance of 0.3 %.
    assert min(shares.values()) >= 0.83


def test_the_variance_between_runs_is_separated_from_that_within():
    table, _, mean = world()
    table = pd.concat([table.assign(seed=table["seed"] + 3 * i) for i in range(40)])
    mean, rng = np.tile(mean, 40), np.random.default_rng(5)
    table["trajectory"] = table.groupby(["n_params", "seed"]).ngroup()
    run_error = rng.normal(0, 2 * NOISE, table["trajectory"].max() + 1)[table["trajectory"]]
    table["y"] = mean + run_error + rng.normal(0, NOISE, len(table))
    noise = fit_law(Additive(), table, y="y").noise
    # 476 runs and 1,436 rows beyond them: standard errors of 3 and 2 %.
    assert noise.run_sd == pytest.approx(2 * NOISE, rel=0.1)
    assert noise.sd == pytest.approx(NOISE, rel=0.08)


def test_the_test_parts_error_belongs_to_the_offset_alone():
    table, _, mean = world()
    table["y"] = mean + np.random.default_rng(2).normal(0, NOISE, len(table))
    without = fit_law(Additive(), table, y="y")
    fit = fit_law(Additive(), table.assign(y_stderr=3e-3), y="y")
    assert fit.noise.test_sd == pytest.approx(3e-3)
    assert fit.stderr["E"] ** 2 - without.stderr["E"] ** 2 == pytest.approx(9e-6, rel=1e-6)
    for name in ("alpha", "beta"):
        assert fit.stderr[name] == pytest.approx(without.stderr[name], rel=1e-9)
        # The search for the ends stops within 0.1 % of the root of the statistic.
        assert fit.intervals[name].upper == pytest.approx(without.intervals[name].upper, rel=1e-3)
    widths = [f.intervals["E"].upper - f.intervals["E"].lower for f in (fit, without)]
    assert widths[0] > widths[1]
    # A new run is scored on the same test part: the law already contains its sampling error.
    assert fit.band(1e9, 1e9).prediction_upper == without.band(1e9, 1e9).prediction_upper


def test_one_run_per_cell_leaves_nothing_shared():
    table, _, mean = world()
    table["y"] = mean + np.random.default_rng(2).normal(0, NOISE, len(table))
    without = fit_law(Additive(), table, y="y")
    fit = fit_law(Additive(), table.assign(trajectory=np.arange(len(table))), y="y")
    assert fit.to_json() == without.to_json()


def test_bootstrap_resamples_whole_runs():
    table, _, mean = world()
    table["trajectory"] = table.groupby(["n_params", "seed"]).ngroup()
    rng = np.random.default_rng(2)
    run_error = rng.normal(0, 3 * NOISE, 12)[table["trajectory"]]
    table["y"] = mean + run_error + rng.normal(0, NOISE / 10, len(table))
    options = FitOptions(interval="bootstrap", n_draws=300)
    runs = fit_law(Additive(), table, y="y", options=options)
    cells = fit_law(Additive(), table.drop(columns="trajectory"), y="y", options=options)
    assert runs.params == pytest.approx(cells.params, rel=1e-6)
    # An error that all data sizes of a run share moves E, but hardly the exponent of data.
    assert runs.stderr["beta"] < 0.5 * cells.stderr["beta"]


def test_the_ends_are_where_the_refit_is_worse_by_the_threshold():
    table, _, mean = world()
    table["y"] = mean + np.random.default_rng(2).normal(0, NOISE, len(table))
    fit = fit_law(Additive(), table, y="y")
    threshold = stats.t.ppf(0.975, fit.noise.dof) ** 2 * fit.noise.sd**2
    for name in ("E", "alpha", "beta"):
        for end in (fit.intervals[name].lower, fit.intervals[name].upper):
            refit = fit_law(
                Additive(), table, y="y", options=FitOptions(fixed={name: end}, interval="none")
            )
            # The search stops within 0.1 % of the root of the statistic.
            assert refit.objective - fit.objective == pytest.approx(threshold, rel=4e-3)


def test_profile_and_wald_agree_where_the_fit_is_nearly_linear():
    table, _, mean = world(n=5)
    table["y"] = mean + np.random.default_rng(3).normal(0, NOISE / 100, len(table))
    profile = fit_law(Additive(), table, y="y").intervals
    wald = fit_law(Additive(), table, y="y", options=FitOptions(interval="wald")).intervals
    for name in ("E", "A", "B", "alpha", "beta"):
        assert profile[name].lower == pytest.approx(wald[name].lower, rel=1e-3)
        assert profile[name].upper == pytest.approx(wald[name].upper, rel=1e-3)


def test_a_side_that_reaches_its_bound_is_open():
    table = pd.DataFrame({"n_samples": np.geomspace(1e4, 1e5, 5)})
    table["y"] = 0.4 + table["n_samples"] ** -0.1 + [1e-3, -1e-3, 0.0, 1e-3, -1e-3]
    fit = fit_law(Saturating(), table, x="n_samples", y="y")
    assert fit.intervals["E"].open_lower
    assert fit.intervals["E"].lower == 0
    assert fit.status == "not_identified"


def test_a_search_that_meets_a_deeper_valley_restarts_the_fit(monkeypatch):
    table, _, mean = world()
    table["y"] = mean + np.random.default_rng(6).normal(0, NOISE, len(table))
    expected = fit_law(Additive(), table, y="y")
    solve = Problem.solve

    def shallow(problem, start=None):
        optimum = solve(problem, start)
        if start is not None:
            return optimum
        theta = optimum.theta + np.array([0, 0, 0, 0.05, -0.05])
        value = float(problem.objective(problem.points.origin)(theta[None], np.array([0]))[0][0])
        return replace(optimum, theta=theta, value=value)

    monkeypatch.setattr(Problem, "solve", shallow)
    fit = fit_law(Additive(), table, y="y")
    assert fit.status == "converged"
    assert fit.params == pytest.approx(expected.params, rel=1e-6)
    assert fit.intervals["E"].lower == pytest.approx(expected.intervals["E"].lower, rel=1e-3)


def test_bootstrap_draws_repeat_with_their_seed():
    table, _, mean = world()
    table["y"] = mean + np.random.default_rng(4).normal(0, NOISE, len(table))
    first, again, other = (
        fit_law(Additive(), table, y="y", options=FitOptions(n_draws=100, seed=seed))
        for seed in (5, 5, 6)
    )
    assert first.intervals == again.intervals
    assert first.intervals != other.intervals


def test_seeds_give_the_noise_when_they_explain_the_residuals():
    noise = estimate_noise(residual_ss=20e-6, residual_dof=20, pure_error=50e-6, pure_error_dof=50)
    assert noise.source == "seeds"
    assert noise.sd == pytest.approx(1e-3)


def test_residuals_give_the_noise_when_seeds_do_not_explain_them():
    noise = estimate_noise(residual_ss=200e-6, residual_dof=20, pure_error=50e-6, pure_error_dof=50)
    assert (noise.source, noise.fits) == ("residuals", False)
    assert noise.sd == pytest.approx(np.sqrt(1e-5))


def test_nothing_gives_the_noise_of_a_saturated_fit():
    assert estimate_noise(0.0, 0, 0.0, 0).source == "none"


def test_outlier_agrees_with_refitting_without_the_point():
    rng = np.random.default_rng(9)
    jacobian = np.column_stack([np.ones(12), np.arange(12.0)])
    y = rng.normal(0, 1, 12)
    y[4] += 6
    residual = y - jacobian @ np.linalg.lstsq(jacobian, y, rcond=None)[0]
    worst, p = outlier(residual, jacobian)
    keep = np.arange(12) != 4
    coefficients, ss, *_ = np.linalg.lstsq(jacobian[keep], y[keep], rcond=None)
    variance = float(ss[0]) / 9
    row = jacobian[4]
    spread = 1 + row @ np.linalg.inv(jacobian[keep].T @ jacobian[keep]) @ row
    t = abs(y[4] - row @ coefficients) / np.sqrt(variance * spread)
    assert worst == 4
    assert p == pytest.approx(min(1, 24 * stats.t.sf(t, 9)), rel=1e-6)
