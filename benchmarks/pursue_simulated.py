"""What `scaling pursue` claims and what it costs, in simulated studies whose law is known.

    python benchmarks/pursue_simulated.py [--worlds 1000]

A world is the additive law with noise drawn anew; a run costs its parameters times its samples. Each world is
pursued with the function that `scaling pursue` calls (`analysis.budget.next_round`). Two answers:

- coverage: how often the last interval holds the truth, with the level that the pursuit gives it, and with 95 % as
  if there had been no look before (naive).
- precision: the width of the last interval, against that of full grids (all model sizes x the smallest data sizes x
  seeds): the cheapest one that costs at least as much.

Writes results/pursue_simulated.json.
"""

import argparse
import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.budget import PursuitUnit, next_round
from analysis.fit import FitOptions, fit_law
from analysis.laws import Additive
from scaling.atomic_files import write_json
from scaling.records import PursuitRound
from scaling.study import GoalConfig

RESULTS = Path(__file__).parent / "results" / "pursue_simulated.json"
PARAMS = {"E": 0.4, "A": 0.9, "B": 8.0, "alpha": 0.3, "beta": 0.4}
START_COST = 2e7  # of any run, for starting a process


@dataclass(frozen=True)
class World:
    """A grid of model sizes x data sizes x seeds and a noise.

    Attributes:
        goal: what is pursued; its budget is `share` of the cost of the whole grid.
        noise: standard deviation of a run.
    """

    goal: GoalConfig
    n_models: int = 5
    n_sizes: int = 5
    n_seeds: int = 4
    decades: float = 2.0
    noise: float = 2e-3

    @property
    def cells(self) -> pd.DataFrame:
        """All runs with their cost."""
        models = 2e3 * 10.0 ** np.linspace(0, self.decades, self.n_models)
        sizes = 4e3 * 10.0 ** np.linspace(0, self.decades, self.n_sizes)
        n, d, seed = (a.ravel() for a in np.meshgrid(models, sizes, range(self.n_seeds)))
        rows = pd.DataFrame({"n_params": n, "n_samples": d, "seed": seed})
        return rows.assign(cost=START_COST + n * d)

    def truth(self) -> float:
        """The true value of the goal."""
        if self.goal.quantity is not None:
            return PARAMS[self.goal.quantity]
        n, d = self.goal.at or (0, 0)
        return float(Additive()(PARAMS, float(n), float(d)))


def goal(
    width: float, quantity: str | None = "alpha", share: float = 0.3, **more: Any
) -> GoalConfig:
    """A goal with a budget of a share of the whole grid's cost."""
    whole = float(World(GoalConfig(width=1, quantity="alpha", flops=1.0)).cells["cost"].sum())
    return GoalConfig(width=width, quantity=quantity, flops=share * whole, **more)


WORLDS = {
    "alpha, reached": World(goal(0.10)),
    "alpha, reached early": World(goal(0.30)),
    "alpha, few cells": World(goal(0.60), noise=4e-3),
    "alpha, budget spent": World(goal(0.01, share=0.1)),
    "alpha, E known": World(goal(0.05, fixed={"E": 0.4})),
    "metric beyond the grid": World(goal(0.004, None, at=(2_000_000, 4_000_000))),
}


def pursue(world: World, seed: int) -> tuple[list[PursuitRound], pd.DataFrame]:
    """All rounds of one pursuit, and the runs it trained."""
    cells = world.cells
    errors = np.random.default_rng(seed).normal(0, world.noise, len(cells))
    cells = cells.assign(logloss=Additive()(PARAMS, cells["n_params"], cells["n_samples"]) + errors)
    sizes = world.goal.at
    at = None if sizes is None else (float(sizes[0]), float(sizes[1]))
    done: set[int] = set()
    rounds: list[PursuitRound] = []
    while not rounds or rounds[-1].kind != "end":
        table = cells.loc[sorted(done)]
        units = [
            PursuitUnit((str(k),), (str(k),), ((row.n_params, row.n_samples),), row.cost)
            for k, row in zip(cells.index, cells.itertuples(), strict=True)
            if k not in done
        ]
        spent = float(table["cost"].sum())
        rounds.append(next_round(world.goal, at, table, units, rounds, spent=spent))
        done |= {int(name) for name in rounds[-1].cells}
    return rounds, cells


def interval(world: World, table: pd.DataFrame) -> tuple[float, float]:
    """The 95 % interval of the goal, as if nobody had looked before."""
    chosen = FitOptions(fixed=world.goal.fixed)
    fit = fit_law(Additive(), table, options=chosen)
    if world.goal.quantity is None:
        band = fit.band(*(world.goal.at or ()))
        return float(band.lower), float(band.upper)
    found = fit.intervals.get(world.goal.quantity)
    if found is None:
        return -np.inf, np.inf
    return (
        -np.inf if found.open_lower else found.lower,
        np.inf if found.open_upper else found.upper,
    )


def equal_grid(world: World, cells: pd.DataFrame, cost: float) -> tuple[float, float]:
    """Width and cost of the cheapest full grid that costs at least `cost`."""
    sizes = np.sort(cells["n_samples"].unique())
    grids = [
        cells[(cells["n_samples"] <= largest) & (cells["seed"] < n_seeds)]
        for n_seeds in range(1, world.n_seeds + 1)
        for largest in sizes[2:]
    ]
    dear = [grid for grid in grids if grid["cost"].sum() >= cost]
    if not dear:
        return float("nan"), float("nan")
    grid = min(dear, key=lambda one: float(one["cost"].sum()))
    low, high = interval(world, grid)
    return high - low, float(grid["cost"].sum())


def measure(world: World, n_worlds: int, *, grids: int = 100) -> dict[str, Any]:
    """Coverage, rounds, cost and widths over many worlds; the grids of the first `grids` worlds are fitted, too."""
    truth, start = world.truth(), time.process_time()
    held = naive = reached = over = 0
    rows = []
    for seed in range(n_worlds):
        rounds, cells = pursue(world, seed)
        last = rounds[-1]
        low = -np.inf if last.lower is None else last.lower
        high = np.inf if last.upper is None else last.upper
        held += low <= truth <= high
        reached += last.is_reached
        over += last.spent > last.budget
        trained = cells.loc[sorted({int(name) for one in rounds for name in one.cells})]
        if seed < grids:
            ends = interval(world, trained)
            width, cost = equal_grid(world, cells, last.spent)
            rows.append(
                (high - low, ends[1] - ends[0], width, last.spent, cost, len(rounds), last.level)
            )
        ends = interval(world, trained)
        naive += ends[0] <= truth <= ends[1]
    own, plain, grid, spent, cost, count, level = (np.array(v) for v in zip(*rows, strict=True))
    return {
        "worlds": n_worlds,
        "coverage": held / n_worlds,
        "coverage_naive": naive / n_worlds,
        "reached": reached / n_worlds,
        "beyond_budget": over / n_worlds,
        "median_rounds": float(np.median(count)),
        "median_level": float(np.median(level)),
        "median_width": float(np.median(own)),
        "median_width_95": float(np.median(plain)),
        "median_width_grid": float(np.nanmedian(grid)),
        "median_cost": float(np.median(spent)),
        "median_cost_grid": float(np.nanmedian(cost)),
        "seconds": time.process_time() - start,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=1000)
    parser.add_argument("--only", nargs="*", choices=sorted(WORLDS))
    options = parser.parse_args(arguments)
    results = {}
    for name, world in WORLDS.items():
        if options.only and name not in options.only:
            continue
        results[name] = one = measure(world, options.worlds)
        numbers = "  ".join(f"{key} {value:.4g}" for key, value in one.items())
        print(f"{name:24} {numbers}", flush=True)
        if options.worlds >= 300 and not options.only:
            write_json(
                RESULTS, {"date": dt.datetime.now(dt.UTC).date().isoformat(), "settings": results}
            )


if __name__ == "__main__":
    main()
