"""Width of the interval per core-hour: `scaling pursue` against the full grid of equal cost, on generated logs.

    python benchmarks/pursue.py [--worlds 5] [--folder FOLDER]

Each world is a generated log of its own seed. First the study is pursued until its budget in FLOPs is spent, then the
cheapest full grid (all grades x the smallest data sizes x seeds) that costs at least as much is trained; runs that
both need are trained once. The goal is the soft logloss of the largest grade at four times the largest data size, from
the additive law. Finished runs are kept in FOLDER, so a call that was stopped goes on. Writes results/pursue.json. One
world takes about two minutes on two idle cores.
"""

import argparse
import datetime as dt
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.fit import FitOptions, fit_law
from analysis.laws import Additive
from analysis.table import runs_table
from scaling.atomic_files import write_json
from scaling.records import read_rounds

RESULTS = Path(__file__).parent / "results" / "pursue.json"
GRADES = ("SUAN-0", "SUAN-1", "SUAN-2", "SUAN-3")
SIZES = (4096, 8192, 16384, 32768, 65536)
N_SEEDS = 2
TARGET = 4 * SIZES[-1]
FLOPS = 4e11  # about a third of the whole grid
STUDY = """\
[study]
name = "world-{seed}"
[data]
path = "data/world-{seed}"
[data.generate]
n_train = {largest}
n_test = 8192
seed = {seed}
[grid]
grade = {grades}
n_samples = {sizes}
n_seeds = {n_seeds}
[train]
packing = "request"
[goal]
metric = "soft_logloss"
at = ["{last}", {target}]
width = 1e-4
flops = {flops}
"""


def call(folder: Path, *arguments: str) -> None:
    """Run `scaling` in the folder; a pursuit that spends its budget exits with 1."""
    command = [sys.executable, "-m", "scaling", *arguments]
    ended = subprocess.run(command, cwd=folder, check=False)
    if ended.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)}: exit code {ended.returncode}")


def width(table: pd.DataFrame, target: tuple[float, float], level: float) -> float:
    """Width of the interval of the law's value at the target; infinite without a fit."""
    fit = fit_law(Additive(), table, y="soft_logloss", options=FitOptions(level=level))
    if not fit.has_curve or not fit.noise.dof:
        return float("inf")
    band = fit.band(*target, level=level)
    return float(band.upper - band.lower)


def side(table: pd.DataFrame, target: tuple[float, float], level: float) -> dict[str, Any]:
    """The numbers of one of the two sides."""
    wide = width(table, target, level)
    return {
        "runs": len(table),
        "flops": float(table["flops"].sum()),
        "core_hours": float(table["train_seconds"].sum() / 3600),
        "level": level,
        "width": wide,
        "width_95": width(table, target, 0.95),
    }


def measure(seed: int, folder: Path) -> dict[str, Any]:
    """Pursue one world, train the grid of equal cost, and compare."""
    study = folder / f"world-{seed}.toml"
    study.write_text(
        STUDY.format(
            seed=seed, largest=SIZES[-1], grades=list(GRADES), sizes=list(SIZES), n_seeds=N_SEEDS,
            last=GRADES[-1], target=TARGET, flops=FLOPS,
        )
    )  # fmt: skip
    runs = folder / "runs" / f"world-{seed}"
    call(folder, "pursue", study.name)
    rounds = read_rounds(runs)
    chosen = {name for one in rounds for name in one.cells}
    own = runs_table(runs)
    own = own[own["signature"].isin(chosen)]
    by_size = own.assign(each=own["flops"] / own["n_samples"]).groupby("grade")["each"].first()
    grids = [
        (float(by_size.reindex(GRADES).sum() * sum(SIZES[:count]) * n_seeds), count, n_seeds)
        for count, n_seeds in product(range(3, len(SIZES) + 1), range(1, N_SEEDS + 1))
    ]
    _, count, n_seeds = min(grid for grid in grids if grid[0] >= own["flops"].sum())
    changes = (f"grid.n_samples={list(SIZES[:count])}", f"grid.n_seeds={n_seeds}")
    call(folder, "submit", study.name, *(w for text in changes for w in ("--set", text)))
    every = runs_table(runs)
    grid = every[(every["n_samples"] <= SIZES[count - 1]) & (every["seed"] < n_seeds)]
    n_params = float(every[every["grade"] == GRADES[-1]]["n_params"].iloc[0])
    target = (n_params, float(TARGET))
    return {
        "pursuit": side(own, target, rounds[-1].level) | {"rounds": len(rounds)},
        "grid": side(grid, target, 0.95) | {"n_sizes": count, "n_seeds": n_seeds},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "pursue")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    worlds = {}
    for seed in range(options.worlds):
        worlds[str(seed)] = one = measure(seed, options.folder)
        print(seed, one, flush=True)
        ratios = [w["grid"]["width"] / w["pursuit"]["width"] for w in worlds.values()]
        document = {
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
            "worlds": worlds,
            "median_width_of_grid_over_pursuit": float(np.median(ratios)),
        }
        write_json(RESULTS, document)


if __name__ == "__main__":
    main()
