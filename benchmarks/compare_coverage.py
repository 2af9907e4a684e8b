"""How often the intervals of `scaling compare` contain the true difference of two variants.

    python benchmarks/compare_coverage.py [--worlds 4000]

In each world two variants are trained with the same seeds: a pair shares the error of its data and has an error of its own.
Normal errors are what Student's interval assumes; the others show what it costs if they are not: three degrees of freedom
(now and then a run is far off), and one-sided ones (a run can fail, not excel). Writes results/compare_coverage.json; 4,000
worlds of each kind take about five minutes on one core.
"""

import argparse
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.study_results import paired_differences
from scaling.atomic_files import write_json

RESULTS = Path(__file__).parent / "results" / "compare_coverage.json"
N_SEEDS = (2, 5, 10)
# sd of what a pair shares and of each run's own error, and the true difference; only ratios matter
SHARED, OWN, DIFFERENCE = 2e-3, 5e-4, 1e-3

Errors = Callable[[np.random.Generator, tuple[int, int]], npt.NDArray[np.float64]]
ERRORS: dict[str, Errors] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "three degrees of freedom": lambda rng, shape: rng.standard_t(3, shape) / 3**0.5,
    "one-sided": lambda rng, shape: rng.exponential(size=shape) - 1,
}


def worlds_table(n_worlds: int, n_seeds: int, errors: Errors, seed: int) -> pd.DataFrame:
    """One row per run; a world is a data size of its own, since a pair has the same data."""
    rng = np.random.default_rng(seed)
    shape = (n_worlds, n_seeds)
    shared = 0.4 + SHARED * rng.normal(size=shape)
    world, run = (places.ravel() for places in np.indices(shape))
    parts = [
        pd.DataFrame(
            {"packing": name, "n_samples": world + 1, "seed": run, "logloss": loss.ravel()}
        )
        for name, loss in (
            ("none", shared + OWN * errors(rng, shape)),
            # the variant alone has such errors: the same ones of both would cancel their skew
            ("request", shared + DIFFERENCE),
        )
    ]
    return pd.concat(parts, ignore_index=True)


def coverage(n_worlds: int, n_seeds: int, errors: Errors, seed: int = 0) -> float:
    """Share of the worlds whose 95 % interval holds the true difference."""
    table = worlds_table(n_worlds, n_seeds, errors, seed)
    found = paired_differences(table, table["packing"] == "none", ["logloss"])
    assert len(found) == n_worlds
    inside = (found["logloss_low"] <= DIFFERENCE) & (found["logloss_high"] >= DIFFERENCE)
    return float(inside.mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--worlds", type=int, default=4000)
    n_worlds = parser.parse_args().worlds
    rows: list[dict[str, Any]] = []
    for name, errors in ERRORS.items():
        for n_seeds in N_SEEDS:
            share = coverage(n_worlds, n_seeds, errors)
            rows.append({"errors": name, "n_seeds": n_seeds, "coverage": share})
            print(f"{name:<25} {n_seeds:>3} seeds: {share:.4f}")
    stderr = (0.95 * 0.05 / n_worlds) ** 0.5
    write_json(
        RESULTS,
        {
            "date": dt.date.today().isoformat(),
            "command": f"python benchmarks/compare_coverage.py --worlds {n_worlds}",
            "n_worlds": n_worlds,
            "nominal": 0.95,
            "standard_error": round(stderr, 4),
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
