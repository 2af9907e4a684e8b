"""Races without a difference: how often the intervals of `scaling race` hold the truth, and how often it finds something.

    .venv/bin/python benchmarks/race_errors.py

Prints a table and writes benchmarks/results/race_errors.json. A run is cell + seed + (model, seed) + noise; the third is what all
cells of a model and seed share. Four minutes.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.study_results.race import _contests

RACES, CELLS, NOISE, SEED_EFFECT = 400, 12, 0.001, 0.003


def race(
    rng: np.random.Generator,
    n_seeds: int,
    scatter: list[float],
    lost: Callable[[int, int], bool] = lambda cell, seed: False,
) -> tuple:
    """One race of as many models as `scatter` has entries, each the size of a model's own seed effects."""
    base, shared = rng.normal(0, 0.02, CELLS), rng.normal(0, SEED_EFFECT, n_seeds)
    tables = {}
    for model, own in enumerate(scatter):
        effects = rng.normal(0, own, n_seeds)
        rows = [
            {
                "grade": f"SUAN-{cell // 3}",
                "n_samples": 1000 * (cell % 3 + 1),
                "seed": seed,
                "y": base[cell] + shared[seed] + effects[seed] + rng.normal(0, NOISE),
            }
            for cell in range(CELLS)
            for seed in range(n_seeds)
            if not lost(cell, seed)
        ]
        tables[str(model)] = pd.DataFrame(rows)
    names = [str(model) for model in range(1, len(scatter))]
    return _contests(tables, "0", names, "y", level=0.95, rising=False)


def main() -> None:
    cases = {
        "7 models, 2 seeds, no effects of model and seed": (2, [0.0] * 7),
        "7 models, 2 seeds, effects as the noise of a cell": (2, [0.001] * 7),
        "7 models, 2 seeds, ten times that": (2, [0.01] * 7),
        "7 models, 4 seeds": (4, [0.002] * 7),
        "2 models, 2 seeds": (2, [0.002] * 2),
        "one of 7 models scatters five times as much": (2, [0.001] * 6 + [0.005]),
        "one seed lacks the largest grade": (2, [0.001] * 7, lambda cell, seed: seed and cell > 8),
    }
    rng, result = np.random.default_rng(0), {}
    for name, case in cases.items():
        found = [race(rng, *case) for _ in range(RACES)]
        ends = [one.mean[1:] for contests in found for one in contests]
        row = {
            "coverage": float(np.mean([low <= 0 <= high for low, high in ends])),
            "false_findings": float(
                np.mean([any(one.p_value < 0.05 for one in contests) for contests in found])
            ),
            "mean_width": float(np.mean([high - low for low, high in ends])),
        }
        result[name] = row
        print(f"{name}: {row}", flush=True)
    path = Path(__file__).parent / "results" / "race_errors.json"
    path.write_text(json.dumps({"races": RACES, "cases": result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
