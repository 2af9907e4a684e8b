"""`FitOptions`: what it refuses, its defaults, and its way into a result and a saved fit."""

import numpy as np
import pandas as pd
import pytest

from analysis.fit import FitOptions, LawFit, fit_law
from analysis.laws import Additive
from scaling.errors import UserError

PARAMS = {"E": 0.4, "A": 2.0, "B": 3.0, "alpha": 0.25, "beta": 0.3}


@pytest.fixture(scope="module")
def table():
    sizes = np.geomspace(1e4, 1e7, 4)
    n, d, s = (a.ravel() for a in np.meshgrid(sizes, sizes, range(3)))
    noise = np.random.default_rng(0).normal(0, 1e-3, len(n))
    return pd.DataFrame(
        {"n_params": n, "n_samples": d, "seed": s, "logloss": Additive()(PARAMS, n, d) + noise}
    ).assign(logloss_stderr=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hubber"}, "loss hubber: no such choice, did you mean huber"),
        ({"residual": "logs"}, "residual logs: no such choice"),
        ({"weights": "error"}, "weights error: no such choice"),
        ({"interval": "wold"}, "interval wold: no such choice, did you mean wald"),
        ({"interval": "wald", "n_draws": 50}, "interval wald contradicts a bootstrap of 50"),
        ({"interval": "none", "n_draws": 50}, "interval none contradicts a bootstrap of 50"),
        ({"interval": "profile", "loss": "huber"}, "interval profile needs the gaussian loss"),
        ({"interval": "wald", "loss": "huber"}, "interval wald needs the gaussian loss"),
        ({"delta": 0.1}, "only the huber loss has a delta"),
        ({"loss": "huber", "delta": 0.0}, "delta is 0, expected a positive number"),
        ({"over": 2.0}, "over is 2, but it needs the huber loss"),
        ({"n_draws": 1}, "n_draws is 1, expected 2 or more"),
        ({"seed": -1}, "seed is -1, expected 0 or more"),
        ({"level": 95.0}, "level is 95, expected a number between 0 and 1"),
    ],
)
def test_wrong_and_contradictory_values_are_refused_when_the_value_is_made(options, message):
    with pytest.raises(UserError, match=message):
        FitOptions(**options)


@pytest.mark.parametrize(
    ("options", "residual", "interval", "draws"),
    [
        ({}, "raw", "profile", 0),
        ({"loss": "huber"}, "log", "bootstrap", 1000),
        ({"residual": "log"}, "log", "profile", 0),
        ({"n_draws": 50}, "raw", "bootstrap", 50),
        ({"interval": "wald"}, "raw", "wald", 0),
    ],
)
def test_defaults_follow_the_loss(options, residual, interval, draws):
    made = FitOptions(**options)
    assert (made.residual_scale, made.interval_method, made.resamples) == (
        residual,
        interval,
        draws,
    )


def test_a_result_holds_the_options_of_its_fit(table):
    options = FitOptions(fixed={"E": 0.4}, interval="wald", level=0.9)
    assert fit_law(Additive(), table, options=options).options is options


def test_a_saved_fit_comes_back_with_its_options(table):
    options = FitOptions(
        loss="huber",
        delta=0.01,
        over=2.0,
        residual="raw",
        interval="none",
        weights="stderr",
        seed=4,
    )
    fit = fit_law(Additive(), table, options=options)
    assert LawFit.from_document(fit.to_document()).options == options


def test_a_fit_saved_by_an_older_version_is_read(table):
    document = fit_law(Additive(), table).to_document()
    older = {k: v for k, v in document.items() if k not in ("over", "weights")}
    again = LawFit.from_document(older)
    assert again.to_document() == document


def test_a_size_that_is_named_as_a_result_keeps_its_values(table):
    renamed = table.rename(columns={"n_params": "measured", "n_samples": "residual"})
    fit = fit_law(Additive(), renamed, x="measured", data="residual")
    np.testing.assert_array_equal(
        fit.cell_sizes, fit_law(Additive(), table).cells[["n_params", "n_samples"]]
    )


def test_predictions_far_from_the_runs_warn_of_nothing(table, recwarn):
    band = fit_law(Additive(), table).band(1e-300, 1e-300)
    assert not np.isfinite(band.upper)
    assert not recwarn.list
