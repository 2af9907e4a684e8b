"""What a grid can tell of a law is known before any run."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from analysis.fit import fit_law
from analysis.laws import build_law, expected_widths, limits_of_grid

LAW = build_law("additive")
TRUE = {"E": 0.388, "A": 6.0, "B": 1.41, "alpha": 0.76, "beta": 0.28}
N_PARAMS = (2e3, 8e3, 3e4, 1.2e5, 5e5, 2e6)
N_SAMPLES = (8192.0, 32768.0, 131072.0, 524288.0, 2097152.0)


def grid(n_params=N_PARAMS, n_samples=N_SAMPLES, seeds=3):
    n, d, _ = np.meshgrid(n_params, n_samples, range(seeds))
    return np.stack([n.ravel(), d.ravel()], axis=1)


def test_the_widths_are_those_of_fits_to_such_runs():
    runs, sd = grid(), 0.002
    expected = expected_widths(LAW, TRUE, runs, sd)
    rng = np.random.default_rng(0)
    halves = {name: [] for name in expected}
    for _ in range(25):
        loss = LAW(TRUE, *runs.T) + rng.normal(0, sd, len(runs))
        table = pd.DataFrame({"n_params": runs[:, 0], "n_samples": runs[:, 1], "logloss": loss})
        fit = fit_law(LAW, table)
        for name, half in halves.items():
            half.append((fit.intervals[name].upper - fit.intervals[name].lower) / 2)
    # profile intervals are wider than linearised ones where the law is curved, and the noise is estimated
    for name, half in halves.items():
        assert np.median(half) == pytest.approx(expected[name], rel=0.12), name


@pytest.mark.parametrize("seeds", [2, 3, 20])
def test_the_quantile_is_student_s(seeds):
    """Nine cells have more degrees of freedom in their seeds than beside five parameters."""
    runs = grid(N_PARAMS[:3], N_SAMPLES[:3], seeds)
    wide, narrow = (
        expected_widths(LAW, TRUE, runs, 0.002, level)["alpha"] for level in (0.95, 0.5)
    )
    dof = 9 * (seeds - 1)
    ratio = special.stdtrit(dof, 0.975) / special.stdtrit(dof, 0.75)
    assert wide / narrow == pytest.approx(ratio, rel=1e-3)


def test_four_times_the_seeds_halve_the_widths():
    few, many = (expected_widths(LAW, TRUE, grid(seeds=s), 0.002) for s in (10, 40))
    # the quantile of t differs by 2 % between 270 and 1170 degrees of freedom at most
    assert {name: few[name] / many[name] for name in few} == pytest.approx(
        dict.fromkeys(few, 2.0), rel=0.02
    )


@given(st.floats(0.5, 1000.0), st.floats(1e-5, 0.1))
def test_widths_grow_with_the_noise_alone(factor, sd):
    one, other = (expected_widths(LAW, TRUE, grid(seeds=1), s) for s in (sd, factor * sd))
    assert {n: other[n] / one[n] for n in one} == pytest.approx(dict.fromkeys(one, factor))


@pytest.mark.parametrize(
    ("n_params", "n_samples", "seeds"),
    [(N_PARAMS[:2], N_SAMPLES, 3), (N_PARAMS, N_SAMPLES[:1], 3), ((1e3, 1e4, 1e5), (1e5,), 1)],
)
def test_a_grid_without_a_law_has_no_widths(n_params, n_samples, seeds):
    widths = expected_widths(LAW, TRUE, grid(n_params, n_samples, seeds), 0.002)
    assert set(widths.values()) == {float("inf")}
    assert set(widths) == {"E", "alpha", "beta"}


def test_a_good_grid_has_no_limits():
    assert limits_of_grid(grid(), 5) == []


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        (grid(N_PARAMS[:2]), "2 model sizes, a law of N needs 3"),
        (grid(n_samples=N_SAMPLES[:1]), "1 data size, a law of D needs 3"),
        (grid(N_PARAMS[:3]), "3 model sizes: without the largest, a law of N has too few"),
        (grid((1e3, 2e3, 3e3, 4e3)), "the model sizes span a factor of 4"),
        (grid(seeds=1), "one seed in every cell"),
        (grid(N_PARAMS[:2], N_SAMPLES[:2]), "4 cells for 5 free parameters, too few"),
        (
            np.array([[1.0, 1.0], [10.0, 1.0], [100.0, 1.0], [1.0, 10.0], [1.0, 100.0]]),
            "5 cells for 5 free parameters, so nothing tests",
        ),
    ],
)
def test_what_a_grid_lacks_is_said(runs, says):
    assert any(says in limit for limit in limits_of_grid(runs, 5))


def test_the_refusal_of_a_fit_is_foretold():
    runs = grid(N_PARAMS[:2])
    loss = LAW(TRUE, *runs.T)
    table = pd.DataFrame({"n_params": runs[:, 0], "n_samples": runs[:, 1], "logloss": loss})
    assert fit_law(LAW, table).message == "2 sizes of N, the law needs 3"
