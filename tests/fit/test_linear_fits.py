"""Fits that are linear regressions: their estimates and intervals are those of the textbook."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.fit import FitOptions, fit_law
from analysis.laws import Additive, Saturating

SIZES = np.geomspace(1e5, 1e8, 8)


def least_squares(columns, y, level=0.95):
    """Coefficients and the half widths of their t intervals, from the normal equations."""
    inverse = np.linalg.inv(columns.T @ columns)
    found = inverse @ columns.T @ y
    dof = len(y) - len(found)
    variance = np.sum((y - columns @ found) ** 2) / dof
    return found, stats.t.ppf(0.5 + level / 2, dof) * np.sqrt(variance * np.diag(inverse))


# Exponents that are held: the offset and the amplitudes are linear.


@pytest.mark.parametrize("options", [{}, {"interval": "wald"}])
def test_an_offset_has_the_interval_of_a_line_if_the_exponent_is_held(options):
    y = 2 + 30 * SIZES**-0.25 + np.random.default_rng(0).normal(0, 0.01, 8)
    columns = np.column_stack([np.ones(8), SIZES**-0.25])
    (offset, amplitude), (half, _) = least_squares(columns, y)
    fit = fit_law(
        Saturating(),
        pd.DataFrame({"x": SIZES, "y": y}),
        x="x",
        y="y",
        options=FitOptions(fixed={"alpha": 0.25}, **options),
    )
    assert fit.status == "converged"
    assert fit.params["E"] == pytest.approx(offset, rel=1e-9)
    assert fit.params["A"] == pytest.approx(amplitude, rel=1e-9)
    # An end of a profile is searched to one thousandth of the half width.
    assert fit.intervals["E"].upper - offset == pytest.approx(half, rel=1e-3)
    assert offset - fit.intervals["E"].lower == pytest.approx(half, rel=1e-3)


def test_an_amplitude_has_the_interval_of_a_line_if_offset_and_exponent_are_held():
    y = 2 + 30 * SIZES**-0.25 + np.random.default_rng(0).normal(0, 0.01, 8)
    (amplitude,), (half,) = least_squares(SIZES[:, None] ** -0.25, y - 2)
    table = pd.DataFrame({"x": SIZES, "y": y})
    options = FitOptions(fixed={"E": 2.0, "alpha": 0.25})
    fit = fit_law(Saturating(), table, x="x", y="y", options=options)
    assert fit.params["A"] == pytest.approx(amplitude, rel=1e-9)
    assert fit.intervals["A"].upper - amplitude == pytest.approx(half, rel=1e-3)


@pytest.mark.parametrize("loss", ["gaussian", "huber"])
@pytest.mark.parametrize("residual", ["raw", "log"])
def test_both_exponents_of_a_joint_law_can_be_held(loss, residual):
    n, d = (a.ravel() for a in np.meshgrid(SIZES[:4], SIZES[:5]))
    params = {"E": 1.0, "A": 20.0, "B": 30.0, "alpha": 0.25, "beta": 0.3}
    table = pd.DataFrame({"n_params": n, "n_samples": d, "y": Additive()(params, n, d)})
    held = {"alpha": 0.25, "beta": 0.3}
    options = FitOptions(loss=loss, residual=residual, interval="none", fixed=held)
    fit = fit_law(Additive(), table, y="y", options=options)
    assert fit.params == pytest.approx(params, rel=1e-9)


def test_with_every_parameter_held_a_fit_measures_the_residuals():
    y = 2 + 30 * SIZES**-0.25 + np.random.default_rng(0).normal(0, 0.01, 8)
    held = {"E": 2.0, "A": 30.0, "alpha": 0.25}
    table = pd.DataFrame({"x": SIZES, "y": y})
    fit = fit_law(Saturating(), table, x="x", y="y", options=FitOptions(fixed=held))
    expected = np.sqrt(np.mean((y - 2 - 30 * SIZES**-0.25) ** 2))
    assert fit.noise.sd == pytest.approx(expected, rel=1e-9)


# Steep exponents.


@pytest.mark.parametrize("smallest", [1e5, 1e22])
def test_an_exponent_of_five_is_found(smallest):
    x = smallest * np.geomspace(1, 100, 9)
    y = 2 + 0.1 * (x / smallest) ** -4.98
    fit = fit_law(Saturating(), pd.DataFrame({"x": x, "y": y}), x="x", y="y")
    assert fit.params["alpha"] == pytest.approx(4.98, rel=1e-6)
    assert fit.at_bound == ()
