"""Fits to runs on recent impressions: every run of a data size has the same error, and neighbouring sizes similar ones."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.fit import fit_law
from analysis.laws import build_law
from analysis.uncertainty.nested_sizes import correlation_factor

LAW = {"E": 0.4, "alpha": 0.4, "beta": 0.3}


def study(rng, shared, n_sizes=6, n_grades=4, noise=0.001):
    """Two seeds of each cell; `shared` is the sd of the error that the runs of a data size have in common."""
    sizes = 1e4 * 10.0 ** np.linspace(0, 2.5, n_sizes)
    grades = 1e4 * 10.0 ** np.linspace(0, 2.5, n_grades)
    ratio = sizes[:, None] / sizes
    error = rng.multivariate_normal(
        np.zeros(n_sizes), shared**2 * np.sqrt(np.minimum(ratio, ratio.T))
    )
    n, j, seed = (a.ravel() for a in np.meshgrid(grades, np.arange(n_sizes), [0, 1], indexing="ij"))
    d = sizes[j]
    y = LAW["E"] + 2 * n ** -LAW["alpha"] + 1.5 * d ** -LAW["beta"] + error[j]
    y += noise * rng.standard_normal(len(n))
    return pd.DataFrame({"n_params": n, "n_samples": d, "seed": seed, "y": y})


def fit(table, order):
    return fit_law(build_law("additive"), table.assign(data_order=order), y="y")


@given(st.lists(st.integers(1, 400), min_size=2, max_size=5, unique=True), st.integers(0, 9))
def test_the_correlations_are_those_of_means_over_nested_sets(sizes, seed):
    """The covariance of means of unit-variance values is exact: the impressions in common over both sizes."""
    sizes = np.sort(sizes).astype(float)
    weights = (np.arange(int(sizes[-1])) < sizes[:, None]) / sizes[:, None]
    covariance = weights @ weights.T
    sd = np.sqrt(np.diag(covariance))
    factor = correlation_factor(sizes)
    assert np.allclose(factor @ factor.T, covariance / np.outer(sd, sd), atol=1e-12)


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize("shared", [0.001, 0.003])
def test_intervals_contain_the_truth_as_often_as_they_say(shared):
    """100 studies: a coverage of 95 % gives 88 or fewer in 0.2 % of cases."""
    rng = np.random.default_rng(11)
    held = dict.fromkeys(LAW, 0)
    for _ in range(100):
        intervals = fit(study(rng, shared), "recent").intervals
        for name, value in LAW.items():
            held[name] += value in intervals[name]
    assert min(held.values()) > 88


def test_the_shared_error_widens_beta_and_e_but_not_alpha():
    table = study(np.random.default_rng(1), 0.003)
    plain, recent = fit(table, "independent"), fit(table, "recent")

    def ratio(name):
        widths = [f.intervals[name].upper - f.intervals[name].lower for f in (recent, plain)]
        return widths[0] / widths[1]

    assert ratio("beta") > 1.2
    assert ratio("E") > 1.2
    assert ratio("alpha") == pytest.approx(1, abs=0.05)


def test_the_estimate_is_the_same():
    table = study(np.random.default_rng(2), 0.001)
    assert fit(table, "recent").params == fit(table, "independent").params


def test_three_sizes_cannot_show_the_shared_error_and_a_note_says_so():
    table = study(np.random.default_rng(3), 0.001, n_sizes=3)
    assert any("data_order recent" in note for note in fit(table, "recent").notes)
    assert not any("data_order recent" in note for note in fit(table, "independent").notes)


def test_one_axis_takes_the_scatter_of_the_sizes_not_of_the_seeds():
    """Seeds agree to 1e-6 here, but the sizes scatter by 3e-3 around the curve."""
    table = study(np.random.default_rng(4), 0.003, n_grades=1, noise=1e-6)
    law = build_law("saturating")
    own = fit_law(law, table.assign(data_order="recent"), x="n_samples", y="y")
    assert max(part.dof for part in own.parts) >= 1
    assert own.stderr["E"] > 1e-4


def test_a_table_without_orders_is_fitted_as_before():
    table = study(np.random.default_rng(5), 0.001)
    own, plain = fit_law(build_law("additive"), table, y="y"), fit(table, "independent")
    assert own.to_json() == plain.to_json()
