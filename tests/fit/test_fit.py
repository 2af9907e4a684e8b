"""Fits: planted laws come back, published optima are reached, degenerate tables are refused."""

import importlib.util
import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from analysis.fit import FitOptions, LawFit, fit_law
from analysis.laws import LAWS, Additive, Broken, Saturating, TiedAdditive, build_law
from analysis.laws.one_axis import Power
from analysis.optimum import Objective, Problem, gather_points
from analysis.uncertainty import Interval, bootstrap_draws, format_estimate
from scaling.errors import UserError

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "fits"


def grid(n=5, decades=3.0, seeds=1, start=1e4):
    sizes = np.geomspace(start, start * 10**decades, n)
    n_params, n_samples, seed = (a.ravel() for a in np.meshgrid(sizes, sizes, range(seeds)))
    return pd.DataFrame({"n_params": n_params, "n_samples": n_samples, "seed": seed})


def planted(alpha=0.3, beta=0.3, offset=0.4, amplitude=0.1, rising=False, noise=0.0, rng=0, **kws):
    """A table around E +- terms of `amplitude` each at the centre of the grid."""
    table = grid(**kws)
    centre = {v: np.exp(np.log(table[v]).mean()) for v in ("n_params", "n_samples")}
    params = {
        "E": offset,
        "A": amplitude * centre["n_params"] ** alpha,
        "B": amplitude * centre["n_samples"] ** beta,
        "alpha": alpha,
        "beta": beta,
    }
    law = Additive(rising=rising)
    table["y"] = law(params, table["n_params"], table["n_samples"])
    table["y"] += np.random.default_rng(rng).normal(0, 1, len(table)) * noise
    return law, table, params


def reference(name):
    path = REFERENCE / name
    if not path.exists():
        pytest.skip(f"{name} is not here")
    return pd.read_csv(path)


def epoch_points():
    table = reference("epoch_chinchilla/svg_extracted_data.csv")
    table["n_params"] = table["Model Size"]
    table["n_samples"] = table["Training FLOP"] / 6 / table["n_params"]
    return table.sort_values("loss", ignore_index=True)[:-5]


# Recovery of planted laws.


def test_noiseless_additive_laws_come_back():
    rng = np.random.default_rng(3)
    for _ in range(25):
        alpha, beta = rng.uniform(0.05, 0.8, 2)
        law, table, params = planted(alpha=alpha, beta=beta)
        fit = fit_law(law, table, y="y", options=FitOptions(interval="none"))
        assert fit.status == "converged"
        # Rounding of the data, 1e-16, times the worst condition number of these grids.
        assert fit.params["alpha"] == pytest.approx(alpha, abs=1e-6)
        assert fit.params["beta"] == pytest.approx(beta, abs=1e-6)
        assert fit.params["E"] == pytest.approx(params["E"], abs=1e-6)


@pytest.mark.parametrize("name", sorted(LAWS))
@pytest.mark.parametrize("rising", [False, True])
@pytest.mark.parametrize("loss", ["gaussian", "huber"])
def test_every_law_comes_back_from_its_own_values(name, rising, loss):
    law = build_law(name, rising=rising)
    # Amplitudes of a tenth at sizes of one million, so that a rising metric stays between 0.5 and 1.
    at_centre = {"E": 0.9 if rising else 0.4, "alpha": 0.31, "beta": 0.22, "rho": 0.45, "R": 0.7}
    at_centre |= {"A": 0.05, "B": 0.04, "G": 0.03, "F": 0.02, "gamma": 0.4, "x0": 0.2, "x1": 2.0}
    at_centre |= {"w": 0.3, "R_D": 4.0, "R_N": 3.0, "g": 0.6, "a": 0.31, "b": -0.22}
    origin = [0.0 if v in law.ratios else np.log(1e6) for v in law.variables]
    theta = law.to_theta(at_centre | law.fixed)
    params = law.to_params(law.rebased(theta[None], origin)[0])
    table = grid(n=13 if len(law.variables) == 1 else 7, decades=3.0, start=1e4)
    rng = np.random.default_rng(3)
    table["max_len"] = rng.choice([1e4, 1e5, 1e6, 1e7], len(table))
    table["epochs"], table["excess"] = rng.choice([1.0, 2.0, 5.0, 12.0], (2, len(table)))
    table["n_embedding_params"] = table["max_len"]
    sizes = {"x": "n_params", "N": "n_params", "D": "n_samples", "L": "max_len"}
    sizes |= {"V": "n_embedding_params"}
    sizes |= {"K": "epochs", "X": "excess"}
    table["y"] = law(params, *(table[sizes[v]] for v in law.variables))
    fit = fit_law(law, table, y="y", options=FitOptions(loss=loss, interval="none"))
    assert fit.status == "converged"
    # Bends are the least determined: rounding of the data times a condition number of 1e8.
    rel = 1e-4 if name in ("broken", "data-constrained") else 1e-5
    for parameter, value in params.items():
        assert fit.params[parameter] == pytest.approx(value, rel=rel), parameter


def test_rising_metric_and_its_complement_have_the_same_exponents():
    law, table, _ = planted(rising=True, offset=0.82, amplitude=0.03, noise=3e-4)
    table["complement"] = 1 - table["y"]
    auc = fit_law(law, table, y="y")
    error = fit_law(Additive(), table, y="complement")
    assert auc.params["alpha"] == pytest.approx(error.params["alpha"], abs=1e-6)
    assert auc.params["E"] == pytest.approx(1 - error.params["E"], abs=1e-6)
    assert auc.intervals["beta"].upper == pytest.approx(error.intervals["beta"].upper, abs=1e-5)


# Published fits (origin and licences: docs/fitting.md).


def test_chinchilla_points_reach_the_known_optimum():
    fit = fit_law(
        Additive(),
        epoch_points(),
        y="loss",
        options=FitOptions(loss="huber", delta=1e-3, interval="none"),
    )
    assert fit.status == "converged"
    assert fit.objective <= 1.01827403e-3  # the published code's best
    expected = {"E": 1.817218, "alpha": 0.3473105, "beta": 0.3671724}
    for name, value in expected.items():
        assert fit.params[name] == pytest.approx(value, abs=1e-5)
    assert fit.params["A"] == pytest.approx(477.826, abs=0.05)
    assert fit.params["B"] == pytest.approx(2143.417, abs=0.5)


def test_chinchilla_bootstrap_agrees_with_the_published_errors():
    rows = gather_points(epoch_points(), ["n_params", "n_samples"], "loss", residual="log")
    problem = Problem(Additive(), rows, 1e-3, {})
    draws, _ = bootstrap_draws(problem, problem.solve().theta, 1000, 0)
    reported = [Additive().to_params(row) for row in Additive().rebased(draws, rows.origin)]
    errors = pd.DataFrame(reported).std()
    # Published from 4,000 draws; 1,000 draws know a standard error to 2.2 %, A and B less (skewed).
    for name, value in {"E": 0.02566, "alpha": 0.01540, "beta": 0.02060}.items():
        assert errors[name] == pytest.approx(value, rel=0.08)
    for name, value in {"A": 124.5, "B": 1293.0}.items():
        assert errors[name] == pytest.approx(value, rel=0.2)


@pytest.mark.parametrize(
    ("delta", "alpha", "beta"),
    [(0.1, 0.36025, 0.40588), (0.01, 0.35442, 0.38154), (1e-4, 0.34741, 0.36538)],
)
def test_huber_threshold_moves_the_optimum_as_known(delta, alpha, beta):
    table = epoch_points()
    fit = fit_law(
        Additive(), table, y="loss", options=FitOptions(loss="huber", delta=delta, interval="none")
    )
    assert fit.params["alpha"] == pytest.approx(alpha, abs=2e-4)
    assert fit.params["beta"] == pytest.approx(beta, abs=2e-4)


def test_survey_checkpoints_reach_the_published_optimum():
    table = reference("misfitting/scaling_results_last_ckpt_only.csv")
    columns = {"x": "N", "data": "D", "y": "loss"}
    options = FitOptions(loss="huber", interval="none")
    fit = fit_law(Additive(), table, **columns, options=options)
    assert fit.objective <= 0.005021654212
    assert fit.params["alpha"] == pytest.approx(0.200265, abs=2e-4)
    assert fit.params["beta"] == pytest.approx(0.635662, abs=2e-4)
    tied = fit_law(TiedAdditive(), table, **columns, options=options)
    assert tied.objective == pytest.approx(0.00524370575, rel=1e-8)


def test_a_bent_law_extrapolates_as_published():
    table = reference("bnsl/four_digit_addition.csv").assign(shifted=lambda t: t.y + 1)
    law = Broken(limit=1.0)
    fit = fit_law(
        law, table[:14], x="x", y="shifted", options=FitOptions(residual="log", interval="none")
    )
    error = np.log(fit.predict(table["x"]) - 1) - np.log(table["y"])
    assert np.sqrt((error[:14] ** 2).mean()) == pytest.approx(0.000598, abs=1e-6)
    assert np.sqrt((error[14:] ** 2).mean()) <= 0.0110


def test_asymmetric_absolute_error_reaches_the_published_optimum():
    table = reference("kyo/df.csv")
    options = FitOptions(loss="huber", residual="raw", delta=1e-7, over=10.0, interval="none")
    fit = fit_law(Additive(), table, x="N", data="D", y="loss", options=options)
    residual = table["loss"] - fit.predict(table["N"], table["D"])
    assert (np.where(residual < 0, 10, 1) * np.abs(residual)).mean() <= 0.02278191


def load_benchmark(name):
    path = Path(__file__).parents[2] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_published_fit_comes_out():
    if not REFERENCE.exists():
        pytest.skip("the reference points are not here")
    rows = load_benchmark("validation").run(REFERENCE)
    assert len(rows) >= 29
    assert [row.what for row in rows if not row.holds] == []


@pytest.mark.slow
def test_no_loss_is_lower_from_many_starts():
    rows = load_benchmark("exactness").compare(sets=5, starts=100)
    for row in rows:
        assert row["ours"] - row["lowest_found"] <= 1e-9


def test_overtraining_points_give_the_published_tied_law():
    path = REFERENCE / "mlfoundations" / "mlf_losspoints_rpj.json"
    if not path.exists():
        pytest.skip("the points are not here")
    points = json.loads(path.read_text())
    # C = 6 N D and D = M N.
    n_params = np.sqrt(np.array(points["flops"]) / 6 / np.array(points["mults"]))
    table = pd.DataFrame({"n_params": n_params, "loss": points["loss"]})
    table["n_samples"] = table["n_params"] * points["mults"]
    fit = fit_law(TiedAdditive(), table, y="loss", options=FitOptions(interval="none"))
    # Published as a C^-eta-like form with a = A 6^eta and b = B 6^eta, 2 eta = alpha, M = D / N.
    eta = fit.params["alpha"] / 2
    assert eta == pytest.approx(0.272851 / 2, rel=1e-3)
    assert fit.params["E"] == pytest.approx(1.83665, rel=1e-3)


# Invariances.


def test_a_shift_of_the_metric_moves_the_offset_alone():
    law, table, _ = planted(noise=1e-3)
    fit = fit_law(law, table, y="y", options=FitOptions(interval="none"))
    table["y"] += 0.25
    moved = fit_law(law, table, y="y", options=FitOptions(interval="none"))
    assert moved.params["E"] - fit.params["E"] == pytest.approx(0.25, abs=1e-7)
    for name in ("A", "B", "alpha", "beta"):
        # Both sit at the same minimum, each to the square root of rounding.
        assert moved.params[name] == pytest.approx(fit.params[name], rel=1e-6)


def test_a_unit_of_size_moves_its_amplitude_alone():
    law, table, _ = planted(noise=1e-3)
    fit = fit_law(law, table, y="y", options=FitOptions(interval="none"))
    table["n_params"] *= 1e-6
    moved = fit_law(law, table, y="y", options=FitOptions(interval="none"))
    factor = 1e-6 ** fit.params["alpha"]
    assert moved.params["A"] == pytest.approx(fit.params["A"] * factor, rel=1e-6)
    for name in ("E", "B", "alpha", "beta"):
        assert moved.params[name] == pytest.approx(fit.params[name], rel=1e-6)


def test_log_residuals_do_not_see_the_metrics_unit():
    law, table, _ = planted(noise=1e-3)
    fit = fit_law(law, table, y="y", options=FitOptions(loss="huber", interval="none"))
    table["y"] *= 3
    scaled = fit_law(law, table, y="y", options=FitOptions(loss="huber", interval="none"))
    assert scaled.params["alpha"] == pytest.approx(fit.params["alpha"], rel=1e-5)
    assert scaled.params["E"] == pytest.approx(3 * fit.params["E"], rel=1e-5)
    assert scaled.objective == pytest.approx(fit.objective, rel=1e-9)


def test_order_of_rows_does_not_matter():
    law, table, _ = planted(noise=1e-3, seeds=3)
    fit = fit_law(law, table, y="y")
    shuffled = fit_law(law, table.sample(frac=1, random_state=1), y="y")
    assert shuffled.params == pytest.approx(fit.params, rel=1e-8)


# The optimum.


@pytest.mark.parametrize("delta", [None, 1e-3])
@pytest.mark.parametrize("log", [False, True])
def test_gradient_agrees_with_central_differences(delta, log):
    law, table, params = planted(noise=2e-3)
    points = gather_points(table, ["n_params", "n_samples"], "y", residual="log" if log else "raw")
    objective = Objective(law, points.logs([0, 0]), points.response, points.weights, log, delta)
    theta = law.to_theta(params) + 0.01
    one = np.zeros(1, dtype=np.intp)
    _, gradient = objective(theta[None], one)
    for i in range(len(theta)):
        step = np.zeros(len(theta))
        step[i] = 1e-7
        up, down = objective((theta + step)[None], one)[0], objective((theta - step)[None], one)[0]
        # Central differences of a loss of order 1e-3: rounding 1e-19 / 1e-7.
        assert gradient[0, i] == pytest.approx((up - down)[0] / 2e-7, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("loss", ["gaussian", "huber"])
def test_no_other_optimiser_finds_a_lower_loss(loss):
    rng = np.random.default_rng(11)
    one = np.zeros(1, dtype=np.intp)
    for trial in range(4):
        law, table, _ = planted(
            alpha=rng.uniform(0.1, 0.6), beta=rng.uniform(0.1, 0.6), noise=4e-3, rng=trial
        )
        fit = fit_law(law, table, y="y", options=FitOptions(loss=loss, interval="none"))
        kind = "log" if loss == "huber" else "raw"
        points = gather_points(table, ["n_params", "n_samples"], "y", residual=kind)
        problem = Problem(law, points, fit.options.threshold, {})
        objective, (lower, upper) = problem.objective(points.origin), problem.bounds()
        lowest = np.inf
        for _ in range(15):
            start = [rng.uniform(0, 0.4), *rng.normal(-2, 1, 2), *rng.uniform(0.05, 1, 2)]
            result = minimize(
                lambda t, f=objective: tuple(a[0] for a in f(t[None], one)),
                start, jac=True, method="L-BFGS-B", bounds=list(zip(lower, upper, strict=True)),
                options={"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-12},
            )  # fmt: skip
            lowest = min(lowest, float(result.fun))
        ours = float(objective(fit.theta[None], one)[0][0])
        assert ours <= lowest * (1 + 1e-9)


def test_a_full_study_is_fitted_within_a_tenth_of_a_second():
    law, table, _ = planted(noise=1e-3, seeds=3)
    fit_law(law, table, y="y")
    start = time.process_time()
    fit_law(law, table, y="y")
    # Measured 0.03 s; the limit is the issue's.
    assert time.process_time() - start < 0.1


# Statuses: an answer, never a number that looks fine.


def test_a_known_offset_can_be_held():
    law, table, params = planted(noise=1e-3, seeds=3)
    fit = fit_law(law, table, y="y", options=FitOptions(fixed={"E": 0.4}))
    assert fit.params["E"] == 0.4
    assert "E" not in fit.intervals
    assert params["alpha"] in fit.intervals["alpha"]
    free = fit_law(law, table, y="y")
    width = [f.intervals["alpha"].upper - f.intervals["alpha"].lower for f in (fit, free)]
    assert width[0] < width[1]


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (lambda t: t.n_params == t.n_params.min(), "1 size of N, the law needs 3"),
        (lambda t: t.n_samples <= t.n_samples.unique()[1], "2 sizes of D, the law needs 3"),
        (lambda t: t.n_params < 0, "no usable row"),
    ],
)
def test_too_few_sizes_give_no_numbers(keep, message):
    law, table, _ = planted(noise=1e-3)
    fit = fit_law(law, table[keep(table)], y="y")
    assert (fit.status, fit.message) == ("too_few_points", message)
    assert np.isnan(list(fit.params.values())).all()
    assert not fit.has_curve
    assert json.loads(fit.to_json())["params"]["alpha"] is None


def test_as_many_cells_as_parameters_is_reported():
    table = pd.DataFrame({"n_samples": [1e3, 1e4, 1e5], "y": [0.6, 0.5, 0.45]})
    fit = fit_law(Saturating(), table, x="n_samples", y="y")
    assert fit.status == "too_few_points"
    assert "passes through every cell" in fit.message
    assert fit.intervals == {}


def test_a_constant_metric_is_refused():
    law, table, _ = planted()
    fit = fit_law(law, table.assign(y=0.5), y="y")
    assert fit.status == "not_identified"
    assert "constant at 0.5" in fit.message


def test_a_metric_that_worsens_with_size_is_reported():
    law, table, _ = planted(noise=1e-3, seeds=2)
    table["n_params"] = 1e12 / table["n_params"]
    fit = fit_law(law, table, y="y")
    assert fit.status == "at_bound"
    assert "does not fall with n_params" in fit.message
    assert fit.params["A"] == 0
    assert np.isnan(fit.params["alpha"])


def test_a_metric_on_the_wrong_side_of_its_limit_is_an_error():
    law, table, _ = planted(offset=1.2)
    with pytest.raises(UserError, match="a rising metric cannot lie above its limit 1"):
        fit_law(law.oriented(True), table, y="y")


def test_a_straight_line_in_logs_puts_the_offset_at_its_bound():
    table = pd.DataFrame({"n_samples": np.geomspace(1e3, 1e7, 6)})
    table["y"] = 0.9 - 0.03 * np.log(table["n_samples"])
    fit = fit_law(Saturating(), table, x="n_samples", y="y")
    assert fit.status == "at_bound"
    assert fit.at_bound == ("E",)
    assert fit.params["E"] == pytest.approx(0, abs=1e-12)


def test_a_narrow_span_is_not_identified():
    law, table, _ = planted(alpha=0.15, beta=0.15, decades=1, seeds=3, noise=4e-3, rng=1)
    fit = fit_law(law, table, y="y")
    assert fit.status == "not_identified"
    assert "E" in fit.unidentified
    assert "n_params 1.0 decades in 5 sizes" in fit.message


def test_a_run_without_a_metric_is_left_out_by_name():
    law, table, _ = planted(noise=1e-3)
    table.loc[3, "y"] = np.nan
    fit = fit_law(law, table, y="y")
    assert fit.n_points == 24
    assert "row 3: y is nan" in fit.notes


def test_many_runs_without_a_metric_are_one_remark():
    law, table, _ = planted(noise=1e-3, seeds=3)
    table.loc[:6, "y"] = np.nan
    table.loc[9, "y"] = np.inf
    assert [note for note in fit_law(law, table, y="y").notes if note.startswith("row ")] == [
        "row 0; row 1; row 2; row 3; row 4 and 2 more: y is nan",
        "row 9: y is inf",
    ]


def test_runs_of_a_cell_without_a_metric_are_not_counted_twice():
    law, table, _ = planted(noise=1e-3, seeds=3)
    table.loc[table["n_params"] == table["n_params"].min(), "y"] = np.nan
    assert not [note for note in fit_law(law, table, y="y").notes if "twice" in note]


def test_a_diverged_run_is_reported_as_an_outlier():
    law, table, _ = planted(noise=1e-3)
    table.loc[7, "y"] += 0.5
    fit = fit_law(law, table, y="y")
    assert any(note.startswith("outlier: y at n_params") for note in fit.notes)


def test_a_size_that_is_not_positive_is_an_error():
    law, table, _ = planted()
    table.loc[2, "n_samples"] = 0
    with pytest.raises(UserError, match="n_samples is 0 in row 2"):
        fit_law(law, table, y="y")


def test_a_missing_column_names_the_nearest():
    law, table, _ = planted()
    with pytest.raises(UserError, match="no column n_param, did you mean n_params"):
        fit_law(law, table, x="n_param", y="y")


def test_amplitudes_can_be_held_as_reported():
    law, table, _ = planted(noise=1e-3, seeds=3)
    free = fit_law(law, table, y="y", options=FitOptions(interval="none"))
    held = {name: free.params[name] for name in ("A", "B")}
    fit = fit_law(law, table, y="y", options=FitOptions(fixed=held))
    assert fit.params == pytest.approx(free.params, rel=1e-6)
    assert set(fit.intervals) == {"E", "alpha", "beta"}
    with pytest.raises(UserError, match="A cannot be held at 0, only above 0"):
        fit_law(law, table, y="y", options=FitOptions(fixed={"A": 0.0}))


def test_sizes_that_grow_together_are_not_distinguished():
    law, table, _ = planted(noise=1e-3, seeds=3)
    table["n_samples"] = 20 * table["n_params"]
    for loss in ("gaussian", "huber"):
        fit = fit_law(law, table, y="y", options=FitOptions(loss=loss, n_draws=50))
        assert not fit.success


def test_rows_far_off_the_law_are_reported_with_hubers_loss():
    law, table, _ = planted(noise=1e-3, seeds=3)
    table.loc[7, "y"] = 1e6
    fit = fit_law(law, table, y="y", options=FitOptions(loss="huber", interval="none"))
    assert any(note.startswith("outliers: 1 of 75 rows are more than 10 sd") for note in fit.notes)


def test_rows_counted_twice_are_reported():
    law, table, _ = planted(noise=1e-3, seeds=3)
    fit = fit_law(law, pd.concat([table, table[:2]]), y="y")
    assert "2 rows repeat another's sizes and y to the last digit: counted twice?" in fit.notes


def test_noise_alone_is_no_law():
    table = grid(seeds=3)
    table["y"] = 0.5 + np.random.default_rng(0).normal(0, 1e-3, len(table))
    assert not fit_law(Additive(), table, y="y").success


def test_steps_that_rounding_hides_are_not_tried(monkeypatch):
    _, table, _ = planted(noise=1e-3)
    law, options = build_law("bottleneck"), FitOptions(interval="none")
    fit = fit_law(law, table, y="y", options=options)
    monkeypatch.setattr("analysis.optimum.solver._EPSILON", 0.0)
    longer = fit_law(law, table, y="y", options=options)
    assert fit.nfev < longer.nfev
    assert fit.params == pytest.approx(longer.params, rel=1e-9)


def test_a_hundred_thousand_rows_are_fitted_in_a_second():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        np.exp(rng.uniform(9, 18, (100_000, 2))), columns=["n_params", "n_samples"]
    )
    params = {"E": 0.4, "A": 2.0, "B": 3.0, "alpha": 0.25, "beta": 0.3}
    table["y"] = Additive()(params, table["n_params"], table["n_samples"])
    table["y"] *= np.exp(rng.normal(0, 2e-3, len(table)))
    start = time.process_time()
    fit = fit_law(Additive(), table, y="y")
    # Measured 0.4 s.
    assert time.process_time() - start < 2
    assert fit.success
    for name, value in params.items():
        assert value in fit.intervals[name]


# The result.


def test_predictions_at_the_points_are_the_fitted_values():
    law, table, _ = planted(noise=1e-3)
    fit = fit_law(law, table, y="y")
    sizes = fit.cells["n_params"], fit.cells["n_samples"]
    np.testing.assert_allclose(fit.predict(*sizes), fit.cells["fitted"], rtol=1e-12)
    np.testing.assert_allclose(
        fit.cells["measured"] - fit.cells["fitted"], fit.cells["residual"], atol=1e-14
    )


def test_bands_widen_outwards_and_stay_within_the_limit():
    law, table, _ = planted(noise=2e-3)
    fit = fit_law(law, table, y="y")
    band = fit.band([1e5, 1e8, 1e14], [1e5, 1e8, 1e14])
    width = band.upper - band.lower
    assert width[0] < width[1] < width[2]
    assert (band.prediction_lower < band.lower).all()
    assert (band.prediction_lower >= 0).all()
    assert band.outside.tolist() == [False, True, True]


def test_a_fit_goes_to_json_and_back():
    law, table, _ = planted(noise=1e-3, seeds=2)
    fit = fit_law(law, table, y="y")
    again = LawFit.from_document(json.loads(fit.to_json()))
    assert again.to_json() == fit.to_json()
    assert again.predict(1e8, 1e8) == fit.predict(1e8, 1e8)


def test_huber_rows_and_gaussian_cells_are_counted():
    law, table, _ = planted(noise=1e-3, seeds=3)
    gaussian = fit_law(law, table, y="y")
    assert (gaussian.n_points, gaussian.n_cells, len(gaussian.cells)) == (75, 25, 25)
    huber = fit_law(law, table, y="y", options=FitOptions(loss="huber", interval="none"))
    assert (huber.n_points, huber.n_cells, len(huber.cells)) == (75, 25, 75)


def test_objective_is_the_rows_sum_of_squares():
    law, table, _ = planted(noise=1e-3, seeds=3)
    fit = fit_law(law, table, y="y")
    residual = table["y"] - fit.predict(table["n_params"], table["n_samples"])
    assert fit.objective == pytest.approx(float((residual**2).sum()), rel=1e-9)
    total = float(((table["y"] - table["y"].mean()) ** 2).sum())
    assert fit.r_squared == pytest.approx(1 - fit.objective / total, rel=1e-9)


def test_rows_weigh_by_their_standard_errors():
    law, table, _ = planted(noise=1e-3)
    table["y_stderr"] = 1e-3
    table.loc[0, "y"] += 0.1
    table.loc[0, "y_stderr"] = 10.0
    weighed = fit_law(law, table, y="y", options=FitOptions(weights="stderr"))
    without = fit_law(law, table.drop(index=0), y="y")
    assert weighed.params["alpha"] == pytest.approx(without.params["alpha"], rel=1e-4)


def test_a_power_law_has_no_offset():
    table = pd.DataFrame({"n_samples": np.geomspace(1e3, 1e6, 5)})
    table["y"] = 3 * table["n_samples"] ** -0.2
    fit = fit_law(Power(), table, x="n_samples", y="y")
    assert fit.params == pytest.approx({"E": 0, "A": 3, "alpha": 0.2}, rel=1e-9)
    assert fit.n_free == 2


@pytest.mark.parametrize(
    ("value", "interval", "text"),
    [
        (0.2314, Interval(0.2138, 0.2493), "0.2314 [0.2138, 0.2493]"),
        (0.2314, Interval(0.114, 0.349), "0.231 [0.114, 0.349]"),
        (0.0, Interval(0.0, 0.35, True, False), "0.000 [open, 0.350]"),
        (2143.4, Interval(1095.0, 5747.0), "2143 [1095, 5747]"),
        (4.2e7, Interval(1e7, 9e7), "4.2e+07 [1e+07, 9e+07]"),
        (float("nan"), None, "not determined"),
        (0.25, None, "0.25"),
    ],
)
def test_estimates_are_rounded_to_their_interval(value, interval, text):
    assert format_estimate(value, interval) == text


SUMMARY = """\
y = E + A N^-alpha + B D^-beta   (additive: N = n_params, D = n_samples)
"""


def test_summary_states_form_status_and_intervals():
    law, table, _ = planted(noise=1e-3, seeds=3)
    text = fit_law(law, table, y="y").summary()
    assert text.startswith(SUMMARY + "  status     converged\n  E          0.3")
    assert "75 runs in 25 cells, 5 parameters, gaussian loss of raw residuals" in text
    assert "of a run by itself (from seeds, 50 dof)" in text
    assert "95% intervals: profile" in text


def test_summary_says_which_noise_dominates():
    law, table, _ = planted(noise=1e-3, seeds=3)
    fit = fit_law(law, table.assign(y_stderr=0.003), y="y")
    assert "0.003 of the test part, shared by all; E's variance: test part 9" in fit.summary()
    shares = fit.sources("E")
    assert shares["test part"] > shares["seeds"]
    assert sum(shares.values()) == pytest.approx(1)
    assert fit.sources("alpha") == {"seeds": 1.0}
    held = fit_law(law, table.assign(y_stderr=0.02), y="y", options=FitOptions(fixed={"E": 0.4}))
    assert held.noise.test_sd == 0
    plain = fit_law(law, table, y="y", options=FitOptions(fixed={"E": 0.4}))
    assert held.intervals["alpha"].lower == plain.intervals["alpha"].lower


@pytest.mark.parametrize("rising", [False, True])
def test_a_band_near_the_metrics_limit_ends_there(rising):
    limit = 1.0 if rising else 0.0
    law = Additive(rising=rising)
    params = {"E": abs(limit - 1e-3), "A": 2.0, "B": 3.0, "alpha": 0.3, "beta": 0.3}
    sizes = np.geomspace(1e5, 1e8, 5)
    n, d = (axis.ravel() for axis in np.meshgrid(sizes, sizes))
    noise = np.random.default_rng(0).normal(0, 0.01, len(n))
    table = pd.DataFrame({"n_params": n, "n_samples": d, "y": law(params, n, d) + noise})
    band = fit_law(law, table, y="y").band([1e8, 1e14], [1e8, 1e14])
    ends = band.prediction_upper if rising else band.prediction_lower
    assert ends[1] == limit
    assert all(0 <= end <= 1 for ends in (band.lower, band.upper) for end in ends)


def test_a_row_of_half_the_error_weighs_as_four():
    law, table, _ = planted(noise=5e-3)
    precise = np.arange(len(table)) % 3 == 0
    weighed = table.assign(y_stderr=np.where(precise, 1e-3, 2e-3))
    repeated = pd.concat([table, *[table[precise]] * 3], ignore_index=True)
    one = fit_law(law, weighed, y="y", options=FitOptions(weights="stderr"))
    other = fit_law(law, repeated, y="y")
    assert one.params == pytest.approx(other.params, rel=1e-6)
