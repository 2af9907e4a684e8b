"""Rounds of a pursuit: what is chosen, when it ends, and that its last interval keeps its promise."""

import importlib.util
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.budget import PursuitUnit, check_goal, next_round
from analysis.budget.first_cells import first_cells
from analysis.budget.further_cells import linearise
from analysis.budget.pursuit_look import Evidence
from analysis.fit import FitOptions, fit_law
from analysis.laws import Additive
from scaling.errors import SettingError
from scaling.study import GoalConfig


def load_benchmark():
    path = Path(__file__).parents[2] / "benchmarks" / "pursue_simulated.py"
    spec = importlib.util.spec_from_file_location("benchmark_pursue_simulated", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def simulated():
    return load_benchmark()


@pytest.fixture(scope="module")
def early(simulated):
    return simulated.pursue(simulated.WORLDS["alpha, reached early"], 1)


@pytest.fixture(scope="module")
def spent(simulated):
    return simulated.pursue(replace(simulated.WORLDS["alpha, budget spent"], noise=1e-3), 0)


def test_a_pursuit_reaches_its_goal_far_below_its_budget(early):
    rounds, _ = early
    assert rounds[-1].is_reached
    assert rounds[-1].width <= rounds[-1].goal_width
    assert rounds[-1].spent < 0.1 * rounds[-1].budget


def test_only_a_declared_look_ends_a_pursuit(early):
    rounds, _ = early
    for before, one in pairwise(rounds):
        assert (one.claims, one.level) == (before.next_claims, before.next_level)
    assert rounds[-1].claims


def test_all_looks_together_take_at_most_the_error_rate(spent):
    rounds, _ = spent
    assert 0 < sum(1 - one.level for one in rounds if one.claims) <= 0.05


def test_no_cell_is_chosen_twice_and_no_budget_exceeded(spent):
    rounds, cells = spent
    names = [name for one in rounds for name in one.cells]
    assert len(names) == len(set(names))
    for one in rounds:
        assert one.spent + one.cost <= one.budget
    assert cells["cost"].iloc[[int(name) for name in names]].sum() == pytest.approx(
        rounds[-1].spent
    )


def test_the_same_runs_give_the_same_round(simulated, early):
    first, _ = simulated.pursue(simulated.WORLDS["alpha, reached early"], 1)
    assert [replace(one, time="") for one in first] == [replace(one, time="") for one in early[0]]


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize("name", ["alpha, reached early", "alpha, few cells"])
def test_looking_on_the_way_does_not_spoil_the_last_interval(simulated, name):
    found = simulated.measure(simulated.WORLDS[name], 80, grids=1)
    # Of 80 worlds with a true coverage of 95 %, fewer than 70 are inside once in 150 times; benchmarks/pursue_simulated.py
    # measures the coverage itself.
    assert found["coverage"] >= 70 / 80
    assert found["beyond_budget"] == 0


def test_runs_that_are_precise_enough_end_it_at_once_at_a_stricter_level(simulated):
    world = simulated.WORLDS["alpha, reached early"]
    cells = world.cells.assign(
        logloss=lambda t: Additive()(simulated.PARAMS, t.n_params, t.n_samples)
    )
    cells["logloss"] += np.random.default_rng(0).normal(0, 1e-4, len(cells))
    one = next_round(world.goal, None, cells, [], [], spent=0.0)
    assert (one.kind, one.is_reached, one.level) == ("end", True, 0.975)


def test_a_unit_of_several_runs_narrows_as_its_runs_one_by_one(simulated):
    cells = simulated.WORLDS["alpha, reached"].cells
    errors = np.random.default_rng(0).normal(0, 2e-3, len(cells))
    table = cells.assign(y=Additive()(simulated.PARAMS, cells.n_params, cells.n_samples) + errors)
    now = linearise(fit_law(Additive(), table, y="y", options=FitOptions(interval="wald")), "alpha")
    runs = np.array([[2e3, 4e3], [2e5, 4e3], [2e5, 4e5]])
    padded = np.vstack([runs, [[np.nan, np.nan]]])
    together = now.with_one_more(padded[None])[0]
    assert now.after(runs).variance == pytest.approx(together, rel=1e-9)
    one_by_one = now.after(runs[:1]).after(runs[1:2]).after(runs[2:])
    assert one_by_one.variance == pytest.approx(together, rel=1e-9)


def test_first_cells_are_the_cheapest_that_identify_the_law():
    grid = sorted(((n, d) for n in (1, 2, 3, 4) for d in (1, 2, 3, 4)), key=lambda c: c[0] * c[1])
    chosen = [grid[k] for k in first_cells([], [[cell] for cell in grid], 5, more=False)]
    assert len(chosen) == 7
    assert len({n for n, _ in chosen}) >= 3
    assert len({d for _, d in chosen}) >= 3
    assert max(n * d for n, d in chosen) <= 4


def test_first_cells_leave_out_what_dearer_ones_make_superfluous():
    units = [[(1, 1)], [(1, 2)], [(1, 3)], [(1, 4)], [(2, 1), (3, 2), (3, 3), (2, 2)]]
    assert first_cells([], units, 5, more=False) == [0, 1, 2, 4]


def test_a_row_of_sizes_is_no_design():
    assert first_cells([], [[(1, d)] for d in range(9)], 5, more=False) == []


def test_a_budget_too_small_for_a_fit_ends_with_the_reason():
    goal = GoalConfig(width=0.1, quantity="alpha", flops=3.0)
    units = [PursuitUnit((str(d),), (str(d),), ((1.0, float(d)),), 1.0) for d in range(1, 9)]
    one = next_round(goal, None, pd.DataFrame(), units, [], spent=0.0)
    assert (one.kind, one.is_reached) == ("end", False)
    assert "no cells that identify the law" in one.reason


def square(costs=1.0):
    """One unit for each cell of a grid of three by three."""
    sizes = [(float(n), float(d)) for n in (1, 2, 3) for d in (1, 2, 3)]
    return [PursuitUnit((f"{s}",), (f"{s}",), (s,), costs) for s in sizes]


@pytest.mark.parametrize(("budget", "kind"), [(6.9, "end"), (7.0, "design")])
def test_no_part_of_a_first_design_is_trained_if_the_whole_is_too_dear(budget, kind):
    goal = GoalConfig(width=0.1, quantity="alpha", flops=budget)
    one = next_round(goal, None, pd.DataFrame(), square(), [], spent=0.0)
    assert (one.kind, bool(one.cells)) == (kind, kind == "design")
    assert ("they cost 7, and 6.9 is left" in one.reason) == (kind == "end")


def test_a_budget_below_any_cell_is_not_called_spent():
    goal = GoalConfig(width=0.1, quantity="alpha", flops=0.5)
    one = next_round(goal, None, pd.DataFrame(), square(), [], spent=0.0)
    assert one.reason == "the budget of 0.5 FLOPs buys no cell: the cheapest costs 1"


def runs_of(simulated, noise):
    cells = simulated.WORLDS["alpha, reached"].cells
    errors = np.random.default_rng(0).normal(0, noise, len(cells))
    return cells.assign(
        logloss=Additive()(simulated.PARAMS, cells.n_params, cells.n_samples) + errors
    )


def last_declared(simulated):
    """Runs, the units left and the round that declares the next look as the last one."""
    table = runs_of(simulated, 2e-3)
    unit = PursuitUnit(("x",), ("x",), ((4e6, 4e6),), 3.0, 2.0)
    goal = GoalConfig(width=1e-4, quantity="alpha", flops=10.0)
    return goal, table, next_round(goal, None, table, [unit], [], spent=6.0), unit


def test_a_look_declared_as_the_last_ends_the_pursuit_although_money_is_left(simulated):
    goal, table, one, unit = last_declared(simulated)
    assert (one.kind, one.next_is_last) == ("narrow", True)
    end = next_round(goal, None, table, [unit], [one], spent=6.5)
    assert (end.kind, end.claims, end.level) == ("end", True, one.next_level)
    assert "declared as the last; 3.5 FLOPs are left" in end.reason


def test_a_larger_budget_goes_on_after_the_last_look(simulated):
    goal, table, one, unit = last_declared(simulated)
    larger = replace(goal, flops=20.0)
    assert next_round(larger, None, table, [unit], [one], spent=6.5).kind == "narrow"


def test_a_look_is_not_the_last_if_a_freed_reserve_could_buy_more(simulated):
    goal, table, _, unit = last_declared(simulated)
    other = PursuitUnit(("y",), ("y",), ((2e4, 4e4),), 2.0, 1.6)
    one = next_round(goal, None, table, [unit, other], [], spent=6.0)
    assert (set(one.cells), one.next_is_last) == ({"x"}, False)


def test_a_fit_at_a_bound_is_said_to_be_unable_to_reach_the_goal():
    sizes = [(n, d) for n in (1e3, 1e4, 1e5) for d in (1e3, 1e4, 1e5)]
    table = pd.DataFrame(sizes, columns=["n_params", "n_samples"])
    table["logloss"] = [0.5 + 0.3 * (d / 1e3) ** -0.5 for _, d in sizes]
    table["logloss"] += np.random.default_rng(0).normal(0, 1e-3, len(table))
    goal = GoalConfig(width=100.0, quantity="beta", flops=1.0)
    one = next_round(goal, None, table, [], [], spent=0.0)
    assert (one.status, one.is_reached) == ("at_bound", False)
    assert "a fit at a bound cannot reach the goal" in one.reason


def test_a_round_names_the_metric_that_was_fitted(simulated):
    table = runs_of(simulated, 1e-4).assign(soft_logloss=lambda t: t["logloss"])
    goal = GoalConfig(width=100.0, at=(10_000, 20_000), flops=1.0)
    one = next_round(goal, (1e4, 2e4), table, [], [], spent=0.0)
    assert (one.metric, one.quantity) == (
        "soft_logloss",
        "soft_logloss at 10,000, 20,000 (additive)",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quantity": "alfa"}, "goal.quantity: .*did you mean alpha"),
        ({"fixed": {"F": 1.0}}, "goal.fixed.F: law additive has no such parameter"),
        ({"law": "tied", "quantity": "A"}, "no free parameter A"),
        ({"metric": "nonsense"}, "goal.metric: nonsense is no metric"),
    ],
)
def test_a_goal_that_the_law_does_not_have_is_refused(change, message):
    goal = replace(GoalConfig(width=0.1, quantity="alpha", flops=1.0), **change)
    with pytest.raises(SettingError, match=message):
        check_goal(goal)


def test_a_goal_may_give_the_direction_of_its_metric(simulated):
    goal = GoalConfig(width=100.0, quantity="alpha", flops=1.0, metric="score", rising=True)
    check_goal(goal)
    table = runs_of(simulated, 1e-4).assign(score=lambda t: 0.9 - t["logloss"])
    look = Evidence(goal, None, table, [], 0.0, 0).look(0.95, True)
    assert look.fit.law.rising
    assert look.fit.success
