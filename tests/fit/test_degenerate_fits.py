"""Fits of tables that contain no trend: the parameters are those of the loss that is reported."""

import numpy as np
import pandas as pd
import pytest

from analysis.fit import FitOptions, fit_law
from analysis.laws import build_law


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("law", ["additive", "bottleneck", "multiplicative"])
def test_a_fit_of_pure_noise_predicts_what_it_minimised(law, seed):
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(1e5, 1e8, 5), np.geomspace(1e6, 1e9, 5)))
    noise = np.random.default_rng(seed).normal(0, 0.01, 25)
    table = pd.DataFrame({"n_params": n, "n_samples": d, "loss": 0.5 + noise})
    fit = fit_law(build_law(law), table, y="loss")
    residual = table["loss"] - fit.predict(n, d)
    assert float(residual @ residual) == pytest.approx(fit.objective, rel=1e-6)


def of_size_only(seed, slope=0.0):
    """A metric that falls with N, and with `slope` per decade of D."""
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(1e5, 1e8, 5), np.geomspace(1e6, 1e9, 5)))
    noise = np.random.default_rng(seed).normal(0, 5e-4, 25)
    loss = 0.5 + 2 * n**-0.3 - slope * np.log10(d / 1e6) + noise
    return pd.DataFrame({"n_params": n, "n_samples": d, "loss": loss})


@pytest.mark.parametrize("residual", ["raw", "log"])
@pytest.mark.parametrize("seed", range(8))
def test_a_metric_that_does_not_fall_with_the_data_says_so(seed, residual):
    """By chance it may seem to fall in a straight line or at the smallest size only; the answer is the same."""
    options = FitOptions(residual=residual)
    fit = fit_law(build_law("additive"), of_size_only(seed), y="loss", options=options)
    assert fit.message == "B is 0, as loss does not fall with n_samples beyond the noise"
    assert fit.params["B"] == 0
    assert np.isnan(fit.params["beta"])
    assert fit.params["alpha"] == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_a_weak_fall_with_the_data_is_kept(seed):
    fit = fit_law(build_law("additive"), of_size_only(seed, slope=5e-4), y="loss")
    assert fit.params["B"] > 0


@pytest.mark.parametrize("seed", range(4))
def test_a_metric_of_noise_falls_with_no_size(seed):
    table = of_size_only(seed).assign(loss=lambda t: t["loss"] - 2 * t["n_params"] ** -0.3)
    fit = fit_law(build_law("additive"), table, y="loss")
    assert fit.at_bound == ("A", "B")
    assert fit.params["E"] == pytest.approx(table["loss"].mean())
