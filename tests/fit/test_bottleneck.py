"""The bottleneck law: recovery of a known g, and the F test that says whether the additive law is good enough."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import least_squares
from slow_cases import fast_only

from analysis.fit import FitOptions, LawFit, fit_law
from analysis.laws import Additive, build_law

QUICK = FitOptions(interval="none")
BOTTLENECK = build_law("bottleneck")


def study(g, *, noise=1e-3, seeds=2, seed=0):
    """Three decades of both sizes around terms of 0.1 each, as a table with the true parameters."""
    sizes = np.geomspace(1e4, 1e7, 5)
    n_params, n_samples, run = (a.ravel() for a in np.meshgrid(sizes, sizes, range(seeds)))
    params = {"E": 0.4, "A": 0.1 * 10 ** (5.5 * 0.4), "alpha": 0.4, "beta": 0.3, "g": g}
    params["R"] = 10 ** (5.5 * (0.3 - 0.4))
    table = pd.DataFrame({"n_params": n_params, "n_samples": n_samples, "seed": run})
    rng = np.random.default_rng(seed)
    table["logloss"] = BOTTLENECK(params, n_params, n_samples) + rng.normal(0, noise, len(table))
    return table, params


@pytest.mark.parametrize("g", [0.2, 0.5, 1.0, 2.0])
def test_a_known_law_comes_back_without_noise(g):
    table, params = study(g, noise=0, seeds=1)
    fit = fit_law(BOTTLENECK, table, options=QUICK)
    for name, value in params.items():
        # A and R hold at sizes of one, so they amplify the rounding of the exponents.
        assert fit.params[name] == pytest.approx(value, rel=1e-5)


def lowest(table, n_starts):
    """The lowest sum of squares that scipy reaches from random starts; parameters E, log A, alpha, beta, g, log R."""
    size, data = (np.log(table[c]) - np.log(table[c]).mean() for c in ("n_params", "n_samples"))
    y = table["logloss"]

    def residuals(q):
        joined = np.logaddexp(-q[2] * size / q[4], (q[5] - q[3] * data) / q[4])
        return q[0] + np.exp(q[1] + q[4] * joined) - y

    rng = np.random.default_rng(0)
    bounds = [0, -30, 1e-3, 1e-3, 0.05, -30], [np.inf, 30, 6, 6, 3, 30]
    found = []
    for _ in range(n_starts):
        exponents = np.exp(rng.uniform(-2, 0, 2))
        start = [rng.uniform(0, y.min()), rng.normal(-2, 1), *exponents, np.exp(rng.uniform(-2, 1)), rng.normal()]  # fmt: skip
        found.append(2 * least_squares(residuals, start, bounds=bounds, xtol=1e-14, ftol=1e-14).cost)  # fmt: skip
    return min(found)


@pytest.mark.parametrize(
    ("g", "noise"), fast_only([(0.3, 5e-3)], [(0.1, 3e-4), (0.3, 5e-3), (1.3, 1e-3)], unpack=True)
)
def test_no_start_of_another_optimiser_ends_lower(g, noise):
    table, _ = study(g, noise=noise, seeds=1)
    fit = fit_law(BOTTLENECK, table, options=QUICK)
    # Both stop where rounding hides the rest of the descent.
    assert fit.objective <= lowest(table, 8) * (1 + 1e-9)


@pytest.mark.parametrize("rising", [False, True])
def test_intervals_hold_a_known_law(rising):
    table, params = study(0.5, seed=1)
    if rising:
        table["auc"] = 1.2 - table["logloss"]
    fit = fit_law(BOTTLENECK.oriented(rising), table, y="auc" if rising else "logloss")
    assert fit.success
    assert all(params[name] in fit.intervals[name] for name in ("alpha", "beta", "g"))
    assert (0.8 if rising else 0.4) in fit.intervals["E"]


def test_the_p_value_is_that_of_an_f_test_of_two_fits():
    table, _ = study(0.98)
    wide, narrow = (fit_law(law, table, options=QUICK) for law in (BOTTLENECK, Additive()))
    assert wide.noise.shared_sd == 0
    f = (narrow.objective - wide.objective) / wide.noise.sd**2
    # The two optima are found apart, each to rounding.
    assert wide.simpler_p == pytest.approx(stats.f.sf(f, 1, wide.noise.dof), rel=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_the_test_refuses_what_the_profile_interval_excludes(seed):
    table, _ = study(0.992, seed=seed)
    fit = fit_law(BOTTLENECK, table)
    assert (fit.simpler_p < 0.05) == (1.0 not in fit.intervals["g"])


def test_a_bottleneck_refuses_the_additive_law_and_says_so():
    fit = fit_law(BOTTLENECK, study(0.5)[0])
    assert fit.simpler_p < 1e-6
    assert "the additive law (g = 1) is refused: F test, p = " in fit.summary()


def test_an_additive_study_finds_the_additive_law_good_enough():
    fit = fit_law(BOTTLENECK, study(1.0)[0])
    assert fit.simpler_p > 0.05
    assert "the additive law (g = 1) is good enough: F test, p = " in fit.summary()


@pytest.mark.parametrize(
    ("law", "options"),
    [
        (Additive(), FitOptions(interval="none")),
        (BOTTLENECK, FitOptions(interval="none", fixed={"g": 1.0})),
        (BOTTLENECK, FitOptions(interval="none", loss="huber")),
    ],
)
def test_there_is_no_test_without_a_free_g_and_least_squares(law, options):
    fit = fit_law(law, study(0.5)[0], options=options)
    assert np.isnan(fit.simpler_p)
    assert "F test" not in fit.summary()


def test_the_p_value_is_saved_and_absent_from_older_documents():
    document = fit_law(BOTTLENECK, study(0.9)[0], options=QUICK).to_document()
    assert LawFit.from_document(document).simpler_p == document["simpler_p"]
    del document["simpler_p"]
    assert np.isnan(LawFit.from_document(document).simpler_p)


def test_the_ratio_of_the_terms_does_not_decide_the_status():
    """R holds at sizes of one, eleven decades of N x D below the runs: its interval is wide as that of A is."""
    fit = fit_law(BOTTLENECK, study(0.7, noise=0.02, seed=1)[0])
    assert fit.intervals["R"].upper > 4 * fit.intervals["R"].lower
    assert fit.success
