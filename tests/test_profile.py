"""Intervals: what they mean, how often they hold the truth, and that the noise checks bite."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.fit import fit_law
from analysis.laws import Additive, Saturating
from analysis.noise import estimate_noise, group_effect, outlier
from analysis.problem import Problem

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


def coverage(n_worlds, column_noise=0.0):
    """Shares of worlds whose intervals hold the truth, and that report a shared effect."""
    table, params, mean = world()
    rng = np.random.default_rng(17)
    held = dict.fromkeys(("E", "alpha", "beta"), 0)
    told = 0
    columns = pd.Categorical(table["n_samples"]).codes
    for _ in range(n_worlds):
        shared = rng.normal(0, column_noise, columns.max() + 1)[columns]
        table["y"] = mean + shared + rng.normal(0, NOISE, len(table))
        fit = fit_law(Additive(), table, y="y")
        told += any("equal n_samples deviate together" in note for note in fit.notes)
        for name in held:
            held[name] += params[name] in fit.intervals[name]
    return {name: count / n_worlds for name, count in held.items()}, told / n_worlds


def test_intervals_hold_the_truth_as_often_as_they_say():
    shares, told = coverage(70)
    # 95 % nominal; below 86 % of 70 worlds has a chance of 0.2 % for each parameter.
    assert min(shares.values()) >= 0.86
    assert told <= 0.15


def test_a_training_subset_shared_by_a_column_breaks_them_and_is_told():
    # The negative control: without it, the test above could pass with intervals of any width.
    shares, told = coverage(40, column_noise=NOISE)
    assert shares["beta"] < 0.75
    assert shares["alpha"] >= 0.8
    assert told >= 0.3


def test_the_ends_are_where_the_refit_is_worse_by_the_threshold():
    table, _, mean = world()
    table["y"] = mean + np.random.default_rng(2).normal(0, NOISE, len(table))
    fit = fit_law(Additive(), table, y="y")
    threshold = stats.t.ppf(0.975, fit.noise.dof) ** 2 * fit.noise.sd**2
    for name in ("E", "alpha", "beta"):
        for end in (fit.intervals[name].lower, fit.intervals[name].upper):
            refit = fit_law(Additive(), table, y="y", fixed={name: end}, interval="none")
            # The search stops within 0.1 % of the root of the statistic.
            assert refit.objective - fit.objective == pytest.approx(threshold, rel=4e-3)


def test_profile_and_wald_agree_where_the_fit_is_nearly_linear():
    table, _, mean = world(n=5)
    table["y"] = mean + np.random.default_rng(3).normal(0, NOISE / 100, len(table))
    profile = fit_law(Additive(), table, y="y").intervals
    wald = fit_law(Additive(), table, y="y", interval="wald").intervals
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
    options = {"y": "y", "interval": "bootstrap", "n_draws": 100}
    first = fit_law(Additive(), table, seed=5, **options)
    again = fit_law(Additive(), table, seed=5, **options)
    other = fit_law(Additive(), table, seed=6, **options)
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


def test_a_shared_shift_is_found_and_independent_noise_is_not():
    rng = np.random.default_rng(8)
    groups = np.repeat(np.arange(5.0), 5)
    x = np.tile(np.arange(5.0), 5)
    jacobian = np.column_stack([np.ones(25), x])

    def p_value(y):
        residual = y - jacobian @ np.linalg.lstsq(jacobian, y, rcond=None)[0]
        return group_effect(residual, jacobian, np.ones(25), groups)

    alarms = np.mean([p_value(rng.normal(0, 1, 25)) < 0.05 for _ in range(400)])
    # Binomial error of a 5 % rate over 400 draws: 1.1 %.
    assert alarms == pytest.approx(0.05, abs=0.035)
    shared = 4 * rng.normal(0, 1, 5)[groups.astype(int)]
    assert p_value(rng.normal(0, 1, 25) + shared) < 1e-4


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
