"""How often intervals of the compute-equivalent gain contain the truth, in simulated pairs of studies with known laws.

    python benchmarks/compute_gain.py [--worlds 500] [--only NAME ...]

In each world, two variants with known laws are fitted and compared as `scaling compute-gain` does it. Writes
results/compute_gain.json. 1,000 worlds of one setting take one to three minutes on one core.
"""

import argparse
import datetime as dt
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from analysis.budget import Cost
from analysis.fit import FitOptions, fit_law
from analysis.gain import ComputeGains, VariantLaw, compute_gains
from analysis.laws import Law, build_law
from scaling.arrays import FloatArray
from scaling.atomic_files import json_values, write_json

RESULTS = Path(__file__).parent / "results" / "compute_gain.json"
REFERENCE = {"E": 0.4, "A": 2.0, "B": 3.0, "alpha": 0.25, "beta": 0.3}
COST = Cost("flops", 6.0, 1.0)
# Half the compute: each size counts as much as root two times as many.
HALF = REFERENCE | {"A": 2.0 * 2 ** (-0.25 / 2), "B": 3.0 * 2 ** (-0.3 / 2)}
# Worse in small runs, better in large ones.
STEEPER = {"E": 0.4, "A": 3.0, "B": 4.95, "alpha": 0.285, "beta": 0.345}
# The gain rests on the covariance at the optimum, whatever the kind of the parameters' intervals.
WALD = FitOptions(interval="wald")
ON_BUDGET = {"E": 0.4, "A": 60.0, "alpha": 0.2}


@dataclass(frozen=True)
class Setting:
    """A kind of comparison.

    Attributes:
        params: of the variant.
        reference: parameters of the reference.
        shared: share of a run's variance that it has in common with the other variant's run of that cell and seed.
        column: sd of an error that all runs of a data size share in both variants, as a multiple of `noise`.
        levels: sizes of each axis, over three decades.
        seeds: runs of a cell.
        noise: standard deviation of one run.
        options: of the fits.
        bounds: range in which coverage must lie.
    """

    what: str
    params: dict[str, float]
    reference: dict[str, float]
    shared: float = 0.75
    column: float = 0.0
    levels: int = 5
    seeds: int = 3
    noise: float = 0.003
    options: FitOptions = WALD
    bounds: tuple[float, float] = (0.93, 0.97)

    @property
    def law(self) -> Law:
        return build_law("additive" if "B" in self.params else "saturating")

    @property
    def cells(self) -> pd.DataFrame:
        if "B" not in self.params:
            axes = [np.geomspace(1e10, 1e15, 3 * self.levels), np.arange(self.seeds)]
            budget, seed = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
            return pd.DataFrame({"flops": budget, "n_samples": budget, "seed": seed})
        axis = np.geomspace(1e4, 1e7, self.levels)
        axes = [axis, axis, np.arange(self.seeds)]
        n, d, seed = (one.ravel() for one in np.meshgrid(*axes, indexing="ij"))
        return pd.DataFrame({"n_params": n, "n_samples": d, "seed": seed.astype(int)})

    def value(self, params: dict[str, float], cells: pd.DataFrame) -> FloatArray:
        return self.law(params, *(cells[name] for name in cells.columns[: len(self.law.variables)]))


HALVED = Setting("half the compute, paired runs", HALF, REFERENCE)
SETTINGS = {
    "half": HALVED,
    "independent": replace(HALVED, what="half the compute, no shared error", shared=0.0),
    "small": replace(HALVED, what="half the compute, 4 x 4 cells, 2 seeds", levels=4, seeds=2),
    "column": replace(
        HALVED, what="half the compute, runs of a data size share an error in both variants", column=1.0,
    ),
    "log": replace(HALVED, what="half the compute, log residuals", options=FitOptions(residual="log", interval="wald")),
    "crossing": Setting("crossing laws, paired runs", STEEPER, REFERENCE),
    "crossing-independent": Setting("crossing laws, no shared error", STEEPER, REFERENCE, shared=0.0),
    "one-axis": Setting("laws of the budget, paired runs", ON_BUDGET | {"A": 60.0 * 2**-0.2}, ON_BUDGET),
    "unpaired": replace(
        HALVED, what="negative control: paired runs, but the seeds are shuffled", bounds=(0.97, 1.0),
    ),
}  # fmt: skip


def study(setting: Setting, rng: np.random.Generator) -> list[pd.DataFrame]:
    """The tables of the reference and of the variant in one world."""
    cells = setting.cells
    common = rng.standard_normal(len(cells)) * setting.shared**0.5
    column = pd.Categorical(cells["n_samples"]).codes
    common += setting.column * rng.standard_normal(column.max() + 1)[column]
    tables = []
    for params in (setting.reference, setting.params):
        own = rng.standard_normal(len(cells)) * (1 - setting.shared) ** 0.5
        value = setting.value(params, cells)
        scale = value / value.mean() if setting.options.residual_scale == "log" else 1.0
        tables.append(cells.assign(y=value + setting.noise * scale * (common + own)))
    return tables


def variants(setting: Setting, tables: list[pd.DataFrame]) -> list[VariantLaw]:
    """Both variants' fits."""
    x = "n_params" if len(setting.law.variables) == 2 else "flops"
    cost = COST if x == "n_params" else None
    return [
        VariantLaw(
            name, fit_law(setting.law, table, x=x, y="y", options=setting.options), table, cost
        )
        for name, table in zip(("reference", "variant"), tables, strict=True)
    ]


def truth(setting: Setting, budgets: FloatArray) -> tuple[FloatArray, float | None]:
    """The true share at each budget (m,), and the budget at which the true laws cross."""
    rng = np.random.default_rng(0)
    laws = []
    for law, params in zip(
        variants(setting, study(setting, rng)), (setting.reference, setting.params), strict=True
    ):
        theta = law.fit.law.rebased(
            law.fit.law.to_theta(params)[None], [-o for o in law.fit.origin]
        )[0]
        laws.append(replace(law, fit=replace(law.fit, theta=theta)))

    def ahead(log_budget: float, log_share: float) -> float:
        one, other = (
            law.at(np.array([at]))[0][0]
            for law, at in zip(laws, (log_budget, log_budget + log_share), strict=True)
        )
        return float(one - other)

    shares = [np.exp(brentq(lambda s, c=c: ahead(c, s), -8, 8)) for c in np.log(budgets)]
    low, high = np.log(budgets[[0, -1]])
    crosses = ahead(low, 0.0) * ahead(high, 0.0) < 0
    return np.array(shares), float(
        np.exp(brentq(lambda c: ahead(c, 0.0), low, high))
    ) if crosses else None


def measure(name: str, setting: Setting, worlds: int) -> dict[str, Any]:
    """Coverage over the worlds of a setting."""
    law = variants(setting, study(setting, np.random.default_rng(0)))[0]
    budgets = np.array([*np.geomspace(*law.range, 3), 10 * law.range[1]])
    shares, crossing = truth(setting, budgets)
    rng = np.random.default_rng([sum(name.encode()), worlds])
    held = np.zeros(len(budgets))
    widths, correlations = [], []
    crossed, crossed_held, extreme, open_ends = 0, 0, 0, 0
    for _ in range(worlds):
        tables = study(setting, rng)
        if name == "unpaired":
            tables[1] = tables[1].assign(seed=tables[1]["seed"] + 100)
        asked = [*budgets, *([crossing] if crossing else [])]
        found: ComputeGains = compute_gains(variants(setting, tables), "reference", asked)
        rows = {gain.budget: gain for gain in found.gains if gain.variant == "variant"}
        ends = np.array([rows[budget].share for budget in budgets])
        held += (ends[:, 1] <= shares) & (shares <= ends[:, 2])
        open_ends += bool(np.isinf(ends).any() or (ends == 0).any())
        with np.errstate(divide="ignore"):
            widths.append(np.log(ends[:, 2] / ends[:, 1]))
        correlations.append(found.correlations["variant"])
        if crossing:
            extreme += not 0.025 <= rows[crossing].better <= 0.975
            crossed += len(found.crossings) > 0
            crossed_held += any(
                one.budget[1] <= crossing <= one.budget[2] for one in found.crossings
            )
    low, high = setting.bounds
    cover = list(held / worlds)
    if crossing:
        cover += [1 - extreme / worlds, crossed_held / max(crossed, 1)]
    return {
        "what": setting.what,
        "worlds": worlds,
        "budgets": budgets.tolist(),
        "true_share": shares.tolist(),
        "coverage": (held / worlds).tolist(),
        "median_log_width": np.median(widths, axis=0).tolist(),
        "open_ends": open_ends / worlds,
        "median_correlation": float(np.median(correlations)),
        "true_crossing": crossing,
        "crossing_found": crossed / worlds if crossing else None,
        "crossing_coverage": crossed_held / max(crossed, 1) if crossing else None,
        "probability_at_crossing_inside": 1 - extreme / worlds if crossing else None,
        "asked": setting.bounds,
        "holds": bool(low <= min(cover) and max(cover) <= high),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=500)
    parser.add_argument("--only", nargs="*", choices=sorted(SETTINGS))
    arguments = parser.parse_args()
    for name, setting in SETTINGS.items():
        if arguments.only and name not in arguments.only:
            continue
        result = measure(name, setting, arguments.worlds)
        cover = " ".join(f"{100 * c:5.1f}" for c in result["coverage"])
        wide = " ".join(f"{w:.2f}" for w in result["median_log_width"])
        print(
            f"{name:22} {cover} | log width {wide} | correlation {result['median_correlation']:.2f} | open "
            f"{result['open_ends']:.3f} | crossing {result['crossing_found']} {result['crossing_coverage']} "
            f"{result['probability_at_crossing_inside']} | {'holds' if result['holds'] else 'FAILS'}",
            flush=True,
        )
        if arguments.worlds >= 500:
            known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"settings": {}}
            known["settings"][name] = json_values(result)
            known["date"] = dt.datetime.now(dt.UTC).date().isoformat()
            write_json(RESULTS, known)


if __name__ == "__main__":
    main()
