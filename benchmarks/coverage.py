"""How often 95 % intervals contain the truth, in simulated studies with a known law.

    python benchmarks/coverage.py [--worlds 1000] [--only NAME ...]

Each study is fitted with `fit_law`, as a user would do it. Writes results/coverage.json. 1,000 studies of one setting
take about a minute on one core.
"""

import argparse
import datetime as dt
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from analysis.fit import FitOptions, LawFit, fit_law
from analysis.laws import Law, build_law
from analysis.uncertainty import Interval
from scaling.atomic_files import write_json
from scaling.metrics import stderr_name

RESULTS = Path(__file__).parent / "results" / "coverage.json"
NAMES = ("alpha", "beta", "E")
LEAST_SQUARES = FitOptions()


@dataclass(frozen=True)
class Other:
    """A law by name, its true parameters, and its sizes by column."""

    law: str
    params: dict[str, float]
    sizes: dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """A kind of study. Noise levels are for one run, as fractions of the terms' amplitude.

    Attributes:
        levels: sizes of each axis.
        decades: span of each axis.
        exponents: alpha and beta.
        offset, amplitude: E, and each term at the centre of the grid.
        noise: standard deviation of one run; with 3 seeds, 1 % of the amplitude for a cell's mean.
        rising: an AUC instead of a logloss.
        column: sd of the error of a training subset, shared by all runs of one data size.
        test: sd of the error of the test part, shared by all runs; the table contains it.
        trajectory: sd of a run's error if one run produces every data size of its grade and seed.
        unnamed_runs: the table does not say which run produced a row.
        heavy: noise with three degrees of freedom.
        by_size: noise of the smallest data size relative to the largest; 0 if they are equal.
        g: of the bottleneck law, which is then fitted; None is the additive law.
        other: another law than these two, with its parameters and its sizes by column; `amplitude` is then that of the noise.
        options: of the fits; with log residuals, the noise is relative.
        seeds: runs of a cell.
        naive: compute intervals as if all errors were independent, which must fail.
        bounds: range in which the coverage must lie.
    """

    what: str
    levels: tuple[int, int] = (5, 5)
    decades: tuple[float, float] = (3.0, 3.0)
    exponents: tuple[float, float] = (0.3, 0.3)
    offset: float = 0.4
    amplitude: float = 0.1
    noise: float = 0.01 * 3**0.5
    rising: bool = False
    column: float = 0.0
    test: float = 0.0
    trajectory: float = 0.0
    unnamed_runs: bool = False
    heavy: bool = False
    by_size: float = 0.0
    g: float | None = None
    other: "Other | None" = None
    options: FitOptions = LEAST_SQUARES
    seeds: int = 3
    naive: bool = False
    bounds: tuple[float, float] = (0.93, 0.97)

    def law(self) -> Law:
        if self.other is not None:
            return build_law(self.other.law, rising=self.rising)
        return build_law("additive" if self.g is None else "bottleneck", rising=self.rising)

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters whose intervals are counted."""
        if self.other is not None:
            unknown = {*self.law().amplitudes, *self.options.fixed}
            return tuple(name for name in self.law().names if name not in unknown)
        return NAMES if self.g is None else (*NAMES, "g")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the law's sizes."""
        return ("n_params", "n_samples") if self.other is None else tuple(self.other.sizes)

    def far(self, table: pd.DataFrame) -> tuple[float, ...]:
        """Sizes beyond the runs: ten times the largest, or a loss that is a tenth lower than the lowest."""
        if self.law().of_metric:
            return (0.9 * float(table[self.columns[0]].min()),)
        return tuple(10 * float(table[column].max()) for column in self.columns)

    def known_noise_widths(self) -> dict[str, float]:
        """Widths of the 95 % intervals of least squares if every variance is known, linearised."""
        table, params = self.table()
        cells = table[table["seed"] == 0]
        law, logs = self.law(), [np.log(cells[c].to_numpy()) for c in self.columns]
        origin = [float(log.mean()) for log in logs]
        theta = law.rebased(law.to_theta(params)[None], [-o for o in origin])[0]
        columns = law.jacobian([log - o for log, o in zip(logs, origin, strict=True)], theta)
        columns[:, [law.names.index(name) for name in self.options.fixed]] = 0.0
        gain = np.linalg.pinv(columns)
        same = {c: cells[c].to_numpy()[:, None] == cells[c].to_numpy() for c in cells}
        run = (
            self.noise**2 * np.eye(len(cells)) + self.trajectory**2 * same["n_params"]
        ) / self.seeds
        shared = self.column**2 * same["n_samples"] + self.test**2
        spread = gain @ (run + shared) @ gain.T * self.amplitude**2
        widths = 2 * 1.959964 * np.sqrt(np.diag(spread))
        return {name: float(widths[law.names.index(name)]) for name in self.names}

    def table(self) -> tuple[pd.DataFrame, dict[str, float]]:
        if self.other is not None:
            mesh = np.meshgrid(*self.other.sizes.values(), range(self.seeds), indexing="ij")
            named = dict(zip((*self.columns, "seed"), (a.ravel() for a in mesh), strict=True))
            return pd.DataFrame({"n_samples": 1.0} | named), self.other.params
        axes = [
            1e5 * 10.0 ** np.linspace(0, span, n)
            for n, span in zip(self.levels, self.decades, strict=True)
        ]
        n, d, seed = (a.ravel() for a in np.meshgrid(*axes, range(self.seeds), indexing="ij"))
        params = {"E": self.offset, "alpha": self.exponents[0], "beta": self.exponents[1]}
        for name, axis, exponent in zip("AB", axes, self.exponents, strict=True):
            params[name] = self.amplitude * float(np.exp(np.log(axis).mean() * exponent))
        if self.g is not None:
            params |= {"R": params["B"] / params["A"], "g": self.g}
        return pd.DataFrame({"n_params": n, "n_samples": d, "seed": seed}), params


S1 = Setting("S1: 5 x 5, 3 decades")
HUBER = FitOptions(loss="huber", n_draws=200)
CHECKPOINTS = replace(
    S1, levels=(6, 16), decades=(2.0, 2.0), seeds=1, noise=0.01, trajectory=0.04, unnamed_runs=True
)
# Amplitudes are 0.1 at the centre of three decades.
TABLES = Other(
    "embeddings",
    {"E": 0.4, "alpha": 0.3, "beta": 0.3, "gamma": 0.4}
    | {name: 0.1 * 10 ** (6.5 * e) for name, e in (("A", 0.3), ("B", 0.3), ("F", 0.4))},
    dict.fromkeys(("n_params", "n_samples", "n_embedding_params"), np.geomspace(1e5, 1e8, 4)),
)
# About as the runs of Gadre et al. 2024 on C4: the mean error of 17 tasks, and HellaSwag's.
LOSSES = {"n_params": np.linspace(2.4, 6.0, 34)}
SINGLE = replace(S1, seeds=1, noise=0.005, amplitude=1.0, rising=True)
SETTINGS = {
    "S1": S1,
    "S2": replace(S1, what="S2: 5 x 5, 1.5 x 2 decades, weak model axis", decades=(1.5, 2.0)),
    "S3": replace(S1, what="S3: 4 x 4, 3 decades", levels=(4, 4)),
    "S9": replace(S1, what="S9: 3 x 3, 3 decades", levels=(3, 3)),
    "S8": replace(
        S1, what="S8: 5 x 5, 1 decade, alpha 0.15: hardly identified",
        decades=(1.0, 1.0), exponents=(0.15, 0.15), bounds=(0.92, 1.0),
    ),
    "auc": replace(
        S1, what="AUC, 5 x 5, 3 decades, .80 - .03 - .03", rising=True, offset=0.80, amplitude=0.03,
        exponents=(0.25, 0.3),
    ),
    "auc-4x4": replace(
        S1, what="AUC, 4 x 4", levels=(4, 4), rising=True, offset=0.80, amplitude=0.03,
        exponents=(0.25, 0.3),
    ),
    "test": replace(S1, what="S1, error of the test part (2 cell sd) shared by all cells", test=0.02),
    "test-auc-4x4": replace(
        S1, what="AUC, 4 x 4, error of the test part shared by all cells", levels=(4, 4), rising=True, offset=0.80,
        amplitude=0.03, exponents=(0.25, 0.3), test=0.02,
    ),
    "trajectory": replace(
        S1, what="S1, one run produces every data size; half its variance shared",
        noise=0.01 * 1.5**0.5, trajectory=0.01 * 1.5**0.5,
    ),
    "trajectory-4x4": replace(
        S1, what="S3, the same", levels=(4, 4), noise=0.01 * 1.5**0.5, trajectory=0.01 * 1.5**0.5,
    ),
    "trajectory-auc": replace(
        S1, what="AUC, 5 x 5, the same", rising=True, offset=0.80, amplitude=0.03,
        exponents=(0.25, 0.3), noise=0.01 * 1.5**0.5, trajectory=0.01 * 1.5**0.5,
    ),
    "S4": replace(
        S1, what="S4: S1, the runs of a data size share a subset error as large as a seed's",
        column=0.01 * 3**0.5, bounds=(0.0, 1.0),
    ),
    "heavy": replace(S1, what="S1, t3-distributed noise", heavy=True),
    "unequal": replace(S1, what="S1, noise falls fourfold over the data sizes", by_size=4.0),
    "untold": replace(
        S1, what="S1, rows of one run share an error (2 x seed sd), but the table does not name the run",
        trajectory=0.02 * 3**0.5, unnamed_runs=True, bounds=(0.0, 1.0),
    ),
    "huber": replace(S1, what="S1, huber loss of logs, bootstrap", options=HUBER),
    "huber-4x4": replace(S1, what="S3, huber loss of logs, bootstrap", levels=(4, 4), options=HUBER),
    "huber-3x3": replace(S1, what="S9, huber loss of logs, bootstrap", levels=(3, 3), options=HUBER),
    "log": replace(S1, what="S1, log residuals, profiles", options=FitOptions(residual="log")),
    "log-bootstrap": replace(
        S1, what="S1, log residuals, bootstrap", options=FitOptions(residual="log", n_draws=200),
    ),
    "checkpoints": replace(
        CHECKPOINTS, what="6 models x 16 checkpoints, rows of one run share an error (4 x their own), which the table "
        "does not name",
    ),
    "checkpoints-huber": replace(CHECKPOINTS, what="the same, huber loss of logs, bootstrap", options=HUBER,
        bounds=(0.93, 1.0),  # beta is too wide: a nearly absolute loss cannot tell what a run shares from what it does not
    ),
    "checkpoints-log": replace(
        CHECKPOINTS, what="the same, log residuals, profiles", options=FitOptions(residual="log"),
    ),
    "bottleneck": replace(
        S1, what="S1, bottleneck law with g = 0.4: the smaller term hardly counts", g=0.4,
    ),
    "bottleneck-additive": replace(S1, what="S1, the bottleneck law fitted to an additive world (g = 1)", g=1.0),
    "embeddings": replace(S1, what="embeddings law, 4 x 4 x 4 sizes, 3 decades", other=TABLES),
    "exponential": replace(
        SINGLE, what="exponential law, 34 runs, an error of 17 tasks",
        other=Other("exponential", {"E": 0.84, "A": 3.05, "w": 1.11}, LOSSES),
    ),
    "sigmoid": replace(
        SINGLE, what="sigmoid law, 34 runs, an error of one task",
        other=Other("sigmoid", {"E": 0.75, "A": 0.68, "x0": 2.57, "w": 0.29}, LOSSES),
    ),
    "sigmoid-auc": replace(
        SINGLE, what="sigmoid law, 40 runs, AUC between .65 and .75, ends held at .5 and 1", rising=False, noise=0.0013,
        options=FitOptions(fixed={"E": 0.5, "A": 0.5}),
        other=Other("sigmoid", {"E": 0.5, "A": 0.5, "x0": 0.586, "w": 0.093}, {"n_params": np.linspace(0.49, 0.53, 40)}),
    ),
    "control": replace(
        S1, what="negative control, must fail: S4, intervals as if all errors were independent",
        column=0.01 * 3**0.5, naive=True, bounds=(0.0, 0.8),
    ),
}  # fmt: skip


def study(
    setting: Setting, table: pd.DataFrame, mean: Any, rng: np.random.Generator
) -> pd.DataFrame:
    """One simulated study of a setting."""
    scale = setting.amplitude
    draw: Callable[[int], Any] = rng.standard_normal
    if setting.heavy:
        draw = lambda n: rng.standard_t(3, n) / 3**0.5  # noqa: E731
    noise = setting.noise * scale * draw(len(table))
    column = pd.Categorical(table["n_samples"]).codes
    if setting.by_size:
        noise *= (
            np.geomspace(1, 1 / setting.by_size, setting.levels[1])[column] * setting.by_size**0.5
        )
    table = table.copy()
    run = table.groupby(["n_params", "seed"]).ngroup().to_numpy()
    if setting.trajectory:
        noise += setting.trajectory * scale * rng.standard_normal(run.max() + 1)[run]
        if not setting.unnamed_runs:
            table["trajectory"] = run
    noise += setting.column * scale * rng.standard_normal(column.max() + 1)[column]
    if setting.options.residual_scale == "log":
        noise *= mean / mean.mean()
    test_error = setting.test * scale * float(rng.standard_normal())
    if setting.test:
        table[stderr_name("y")] = setting.test * scale
    return table.assign(y=mean + noise + test_error), test_error


def naive(fit: LawFit, name: str) -> Interval:
    """The interval without the errors that cells share."""
    i, own = fit.law.names.index(name), fit.parts[0]
    half = float(stdtrit(own.dof, 0.975) * np.sqrt(own.covariance[i, i]))
    return Interval(fit.params[name] - half, fit.params[name] + half)


def measure(name: str, setting: Setting, worlds: int) -> dict[str, Any]:
    """Coverage, widths and notes over the worlds of a setting."""
    table, params = setting.table()
    law = setting.law()
    mean = law(params, *(table[column] for column in setting.columns))
    # the name is part of the seed: a renamed setting has other numbers
    rng = np.random.default_rng([sum(name.encode()), worlds])
    far = setting.far(table)
    true = float(law(params, *far))
    names = setting.names
    held = dict.fromkeys(names, 0)
    widths: dict[str, list[float]] = {n: [] for n in names}
    kinds = ["open", "unidentified", "column", "row", "lack of fit", "prediction", "band"]
    counts = dict.fromkeys([*kinds, *(["additive refused"] if setting.g is not None else [])], 0)
    start = time.process_time()
    for _ in range(worlds):
        runs, test_error = study(setting, table, mean, rng)
        fit: LawFit = fit_law(law, runs, y="y", options=setting.options)
        for parameter in names:
            interval = naive(fit, parameter) if setting.naive else fit.intervals.get(parameter)
            if interval is not None:
                held[parameter] += params[parameter] in interval
                widths[parameter].append(interval.upper - interval.lower)
        counts["open"] += any(i.is_open for i in fit.intervals.values())
        counts["unidentified"] += fit.status in ("not_identified", "at_bound")
        counts["column"] += any("equal n_samples deviate" in note for note in fit.notes)
        counts["row"] += any("equal n_params deviate" in note for note in fit.notes)
        if setting.g is not None:
            counts["additive refused"] += fit.simpler_p < 0.05
        counts["lack of fit"] += any("lack of fit" in note for note in fit.notes)
        band = fit.band(*far)
        # A new run on the same test part.
        own = np.hypot(setting.noise, np.hypot(setting.trajectory, setting.column))
        shrunk = 1 / setting.by_size**0.5 if setting.by_size else 1.0
        if setting.options.residual_scale == "log":
            shrunk = true / float(mean.mean())
        new = true + test_error + own * shrunk * setting.amplitude * rng.standard_normal()
        counts["prediction"] += bool(band.prediction_lower <= new <= band.prediction_upper)
        counts["band"] += bool(band.lower <= true + test_error <= band.upper)
    seconds = time.process_time() - start
    shares = {key: count / worlds for key, count in counts.items()}
    low, high = setting.bounds
    cover = [held[n] / worlds for n in names]
    known = setting.known_noise_widths()
    return {
        "what": setting.what,
        "worlds": worlds,
        "coverage": dict(zip(names, cover, strict=True)),
        "median_width": {n: float(np.median(w)) for n, w in widths.items()},
        "width_over_known_noise": {n: float(np.median(widths[n]) / known[n]) for n in names},
        "shares": shares,
        "asked": setting.bounds,
        "holds": (min(cover) if setting.naive else max(cover)) <= high and low <= min(cover),
        "seconds": seconds,
    }


def markdown(results: dict[str, Any]) -> str:
    """The saved results as a table."""
    lines = [
        "| studies | alpha | beta | E | at 10 x | shared error found | width |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, setting in SETTINGS.items():
        if name not in results or setting.g is not None or setting.other is not None:
            continue
        result = results[name]
        cover = " | ".join(f"{100 * result['coverage'][n]:.1f}" for n in NAMES)
        shares, wide = result["shares"], result["width_over_known_noise"]
        # Known-noise widths are linear theory: useless if the fit is not linear or the noise is unequal.
        linear = name not in ("S8", "heavy", "unequal", "untold", "control", "S4") and (
            setting.options == LEAST_SQUARES
        )
        width = " ".join(f"{w:.2f}" for w in wide.values()) if linear else ""
        lines.append(
            f"| {result['what']} | {cover} | {100 * shares['prediction']:.1f} "
            f"| {100 * shares['column']:.1f} | {width} |"
        )
    lines += [
        "",
        "| studies | alpha | beta | E | g | at 10 x | additive law refused | identified |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, setting in SETTINGS.items():
        if name in results and setting.g is not None:
            result = results[name]
            shares = result["shares"]
            cover = " | ".join(f"{100 * share:.1f}" for share in result["coverage"].values())
            rest = (shares["prediction"], shares["additive refused"], 1 - shares["unidentified"])
            lines.append(
                f"| {result['what']} | {cover} | {' | '.join(f'{100 * r:.1f}' for r in rest)} |"
            )
    lines += [
        "",
        "| studies | at 10 x, or a tenth lower | coverage | identified |",
        "|---|---|---|---|",
    ]
    for name, setting in SETTINGS.items():
        if name in results and setting.other is not None:
            result = results[name]
            shares = result["shares"]
            cover = ", ".join(f"{n} {100 * share:.1f}" for n, share in result["coverage"].items())
            lines.append(
                f"| {result['what']} | {100 * shares['prediction']:.1f} | {cover} "
                f"| {100 * (1 - shares['unidentified']):.1f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=1000)
    parser.add_argument("--only", nargs="*", choices=sorted(SETTINGS))
    parser.add_argument("--table", action="store_true", help="print the saved results as Markdown")
    arguments = parser.parse_args()
    if arguments.table:
        print(markdown(json.loads(RESULTS.read_text())["settings"]))
        return
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"settings": {}}
    for name, setting in SETTINGS.items():
        if arguments.only and name not in arguments.only:
            continue
        result = measure(name, setting, arguments.worlds)
        known["settings"][name] = result
        known["date"] = dt.datetime.now(dt.UTC).date().isoformat()
        cover = "  ".join(f"{n} {100 * result['coverage'][n]:5.1f}" for n in setting.names)
        shares = "  ".join(f"{k} {100 * v:.1f}" for k, v in result["shares"].items())
        wide = " ".join(f"{w:.2f}" for w in result["width_over_known_noise"].values())
        print(
            f"{name:15} {cover} | width {wide} | {shares} | {result['seconds']:.0f} s", flush=True
        )
        if arguments.worlds >= 1000:
            write_json(RESULTS, known)


if __name__ == "__main__":
    main()
