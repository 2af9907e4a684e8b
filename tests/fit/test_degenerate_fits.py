"""Fits of tables that contain no trend: the parameters are those of the loss that is reported."""

import numpy as np
import pandas as pd
import pytest

from analysis.fit import fit_law
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
