"""What a larger size buys, with its interval."""

import numpy as np
import pandas as pd
import pytest

from analysis.fit import fit_law
from analysis.laws import Additive

TRUE = {"E": 0.4, "A": 1.2, "B": 5.0, "alpha": 0.3, "beta": 0.35}
LARGEST = (1e6, 1e6)
SIZES = {"n_params": "N", "n_samples": "D"}


def runs(rng, sd=0.002, seeds=2):
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(1e3, 1e6, 5), np.geomspace(1e4, 1e6, 5)))
    n, d = np.tile(n, seeds), np.tile(d, seeds)
    noise = rng.normal(scale=sd, size=len(n))
    return pd.DataFrame({"n_params": n, "n_samples": d, "loss": Additive()(TRUE, n, d) + noise})


def fitted(rng, **how):
    return fit_law(Additive(), runs(rng, **how), y="loss", x="n_params", data="n_samples")


def test_the_gain_is_the_difference_of_two_predictions():
    fit = fitted(np.random.default_rng(0))
    change, interval = fit.gain(LARGEST, (1e6, 1e7))
    assert change == pytest.approx(fit.predict(1e6, 1e7) - fit.predict(1e6, 1e6), rel=1e-12)
    assert interval.lower < change < interval.upper < 0


def test_its_interval_is_narrower_than_that_of_the_offset_which_cancels():
    fit = fitted(np.random.default_rng(1))
    _, interval = fit.gain(LARGEST, (1e6, 1e7))
    offset = fit.intervals["E"]
    assert interval.upper - interval.lower < 0.5 * (offset.upper - offset.lower)


@pytest.mark.slow
@pytest.mark.no_cover
def test_its_interval_holds_the_true_gain_in_95_of_100_studies():
    rng = np.random.default_rng(2)
    true = Additive()(TRUE, 1e7, 1e6) - Additive()(TRUE, *LARGEST)
    inside = [true in fitted(rng).gain(LARGEST, (1e7, 1e6))[1] for _ in range(200)]
    # 95 % of 200 with three standard errors of a binomial
    assert abs(sum(inside) - 190) < 9.3
