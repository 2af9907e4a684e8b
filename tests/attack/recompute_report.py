"""Recompute the numbers of a study's report from its records, sharing no code with the project: json, numpy and scipy only.

    python tests/attack/recompute_report.py RUNS/STUDY [-o RESULT.json]

Reads `*/record.json`, averages the runs of each cell, fits every law by least squares of its own (amplitudes by
non-negative least squares, exponents by `scipy.optimize.least_squares` from a grid of starts), and from these fits derives
gains, best splits, held-out errors and intervals. Compares with report.json to the digits that a fit determines, and with
report.md to the last printed digit. Prints how many numbers of each kind were compared, and which were not, with the
reason. Exits with 1 if a number differs.

Intervals are compared where the seeds explain the residuals (and one error of the test part is common to all). Whether
rows or columns of cells share an error is tested here, too, and compared; if they do, or if one run serves several cells,
the widths follow from a model of these errors that is not repeated here.
"""

import argparse
import collections
import datetime as dt
import itertools
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
from scipy import optimize, stats

Z = 1e-12
# below this p-value, cells of one size count as sharing an error
SHARED = 0.035


class Ledger:
    """What was compared, what differs, and what was left out."""

    def __init__(self):
        self.checked, self.failed, self.left_out = collections.Counter(), [], collections.Counter()

    def near(self, kind, where, reported, expected, tolerance):
        self.checked[kind] += 1
        both = (reported, expected)
        if all(x is None or not math.isfinite(x) for x in both):
            return
        if (
            any(x is None or not math.isfinite(x) for x in both)
            or abs(reported - expected) > tolerance
        ):
            self.failed.append(f"{kind}: {where}: report {reported}, recomputed {expected}")

    def printed(self, kind, where, text, expected, slack=0.0):
        """A number as the page prints it: equal up to half of its last digit."""
        value, half = parsed(text)
        if value is None:
            expected_dash = expected is None or not math.isfinite(expected)
            self.checked[kind] += 1
            if not expected_dash:
                self.failed.append(f"{kind}: {where}: report {text!r}, recomputed {expected}")
            return
        self.near(kind, f"{where} ({text})", value, expected, 1.001 * half + slack + Z * abs(value))

    def same(self, kind, where, reported, expected):
        self.checked[kind] += 1
        if reported != expected:
            self.failed.append(f"{kind}: {where}: report {reported!r}, recomputed {expected!r}")

    def skip(self, what, n=1):
        self.left_out[what] += n


SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
UNITS = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12, "%": 1e-2, "×": 1.0, "": 1.0}
NUMBER = re.compile(r"([+-]?\d[\d,]*\.?\d*)(?:e([+-]?\d+)| × 10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?([kMBT%×]?)")


def parsed(text):
    """Value and half of the last printed digit; None for a dash."""
    match = NUMBER.fullmatch(text.strip())
    if not match:
        return None, 0.0
    digits, power, raised, unit = match.groups()
    digits = digits.replace(",", "")
    exponent = int(power or (raised or "0").translate(SUPERSCRIPTS))
    decimals = len(digits.partition(".")[2])
    # whole numbers are printed whole, rounded ones with a unit or a power
    whole = "." not in digits and not unit and not exponent
    scale = 10.0**exponent * UNITS[unit]
    return float(digits) * scale, 0.0 if whole else 0.5 * 10.0**-decimals * scale


# Laws: each takes log sizes and shapes, and returns the columns that are multiplied by the amplitudes.


def powers(*terms):
    return lambda logs, s: [np.exp(-sum(s[k] * logs[i] for i, k in term)) for term in terms]


def kaplan(logs, s):
    return [np.exp(s[1] * np.logaddexp(-s[0] * logs[0], s[2] - logs[1]))]


def bottleneck(logs, s):
    alpha, beta, g, ratio = s
    return [np.exp(g * np.logaddexp(-alpha * logs[0] / g, (ratio - beta * logs[1]) / g))]


EXPONENT, STARTS = (1e-3, 6.0), (0.05, 0.2, 0.5, 1.2)
RATIO, RATIO_STARTS = (-69.0, 69.0), (-4.0, 0.0, 4.0)
# name: columns, bounds of the shapes, starts of the shapes, names of all parameters
LAWS = {
    "additive": (powers([(0, 0)], [(1, 1)]), [EXPONENT] * 2, [STARTS] * 2),
    "tied": (powers([(0, 0)], [(1, 0)]), [EXPONENT], [STARTS]),
    "multiplicative": (powers([(0, 0), (1, 1)]), [EXPONENT] * 2, [STARTS] * 2),
    "interaction": (
        powers([(0, 0)], [(1, 1)], [(0, 0), (1, 1)]),
        [EXPONENT] * 2,
        [STARTS] * 2,
    ),
    "kaplan": (kaplan, [EXPONENT, EXPONENT, RATIO], [STARTS, STARTS, RATIO_STARTS]),
    "bottleneck": (
        bottleneck,
        [EXPONENT, EXPONENT, (0.05, 3.0), RATIO],
        [(0.1, 0.3, 0.9), (0.1, 0.3, 0.9), (0.3, 1.0), (-3.0, 0.0, 3.0)],
    ),
    "saturating": (powers([(0, 0)]), [EXPONENT], [STARTS]),
}


class Fit:
    """Weighted least squares of y = E + sum A phi, or E - sum A phi for a rising metric."""

    def __init__(self, law, sizes, y, weights, rising, offset=None):
        self.law, self.rising, self.offset = law, rising, offset
        self.columns, self.bounds, starts = LAWS[law]
        self.origin = [float(np.mean(np.log(size))) for size in sizes]
        self.logs = [np.log(size) - o for size, o in zip(sizes, self.origin, strict=True)]
        # a falling metric lies above 0 and a rising one below 1: all coefficients are at least 0
        self.y, self.root = (1 - y if rising else y), np.sqrt(weights)
        self.value, self.shape = min(
            (self._descend(np.array(start)) for start in self._starts(starts)), key=lambda f: f[0]
        )
        self.coefficients = self._solve(self.shape)[0]

    def _starts(self, starts):
        every = list(itertools.product(*starts))
        return sorted(every, key=lambda s: self._solve(np.array(s))[1])[:8]

    def _solve(self, shape):
        design = np.column_stack(self.columns(self.logs, shape))
        held = self._held()
        if held is None:
            design = np.column_stack([np.ones(len(self.y)), design])
        target = (self.y - (held or 0.0)) * self.root
        design = design * self.root[:, None]
        size = np.maximum(np.linalg.norm(design, axis=0), 1e-300)
        found, rest = optimize.nnls(design / size, target)
        found = found / size
        return (found if held is None else np.append(held, found)), 0.5 * rest**2

    def _held(self):
        if self.offset is None:
            return None
        return 1 - self.offset if self.rising else self.offset

    def _residuals(self, shape):
        c = self._solve(shape)[0]
        return (
            self.y
            - c[0]
            - sum(a * p for a, p in zip(c[1:], self.columns(self.logs, shape), strict=True))
        ) * self.root

    def _descend(self, start):
        low, high = np.array(self.bounds).T
        found = optimize.least_squares(
            self._residuals, np.clip(start, low + 1e-9, high - 1e-9), bounds=(low, high),
            xtol=1e-14, ftol=1e-14, gtol=1e-14, x_scale="jac", max_nfev=400,
        )  # fmt: skip
        return found.cost, found.x

    def at(self, *sizes):
        logs = [np.log(size) - o for size, o in zip(sizes, self.origin, strict=True)]
        phi = self.columns(logs, self.shape)
        value = self.coefficients[0] + sum(
            a * p for a, p in zip(self.coefficients[1:], phi, strict=True)
        )
        return 1 - value if self.rising else value

    @property
    def n_free(self):
        return len(self.coefficients) + len(self.shape) - (self.offset is not None)

    def params(self):
        """Reported parameters of a sum of powers, for sizes in their own units."""
        e = self.coefficients[0]
        found = {"E": 1 - e if self.rising else e}
        n = len(self.shape)
        for name, a, k in zip("AB", self.coefficients[1:], range(n), strict=False):
            found[name] = a * math.exp(self.shape[k] * self.origin[k])
        return found | dict(zip(("alpha", "beta"), self.shape, strict=False))

    def gradient(self, *sizes):
        """Derivatives of the law by E, A (centred) and the exponents, at one place; of a sum of powers."""
        logs = [math.log(size) - o for size, o in zip(sizes, self.origin, strict=True)]
        phi = [float(p) for p in self.columns(logs, self.shape)]
        sign = -1.0 if self.rising else 1.0
        by_shape = [
            -sign * a * p * log for a, p, log in zip(self.coefficients[1:], phi, logs, strict=True)
        ]
        first = [] if self.offset is not None else [1.0]
        return np.array([*first, *(sign * p for p in phi), *by_shape])

    def weighted(self):
        """Derivatives by cell and parameter, and residuals, times the roots of the weights."""
        sizes = [np.exp(log + o) for log, o in zip(self.logs, self.origin, strict=True)]
        rows = np.array([self.gradient(*place) for place in zip(*sizes, strict=True)])
        return rows * self.root[:, None], self._residuals(self.shape) * (-1 if self.rising else 1)

    def covariance(self, variance):
        rows, _ = self.weighted()
        return np.linalg.inv(rows.T @ rows) * variance

    def profile_value(self, name, value):
        """The least loss with one parameter held; of a sum of powers."""
        if name == "E":
            held = Fit.__new__(Fit)
            held.__dict__ |= self.__dict__ | {"offset": value}
            return held._descend(self.shape)[0]
        sizes, low = len(self.shape), np.array(self.bounds)
        if name in ("alpha", "beta"):
            k = ("alpha", "beta").index(name)
            others = [i for i in range(sizes) if i != k]
            if not others:
                return self._solve(np.array([value]))[1]

            def at(free):
                shape = np.empty(sizes)
                shape[k], shape[others] = value, free
                return self._residuals(shape)

            return optimize.least_squares(
                at, self.shape[others], bounds=low[others].T, xtol=1e-14, ftol=1e-14, gtol=1e-14
            ).cost
        return self._amplitude_value("AB".index(name), value)

    def _amplitude_value(self, j, value):
        """The least loss with an amplitude, for sizes of one, held."""

        def at(shape):
            phi = self.columns(self.logs, shape)
            own = value * math.exp(-shape[j] * self.origin[j]) * phi[j]
            rest = [p for i, p in enumerate(phi) if i != j]
            held = self._held()
            if held is None:
                rest = [np.ones(len(self.y)), *rest]
            target = (self.y - own - (held or 0.0)) * self.root
            if not rest:
                return target
            design = np.column_stack(rest) * self.root[:, None]
            c, _ = optimize.nnls(design, target)
            return target - design @ c

        return optimize.least_squares(
            at, self.shape, bounds=np.array(self.bounds).T, xtol=1e-14, ftol=1e-14, gtol=1e-14
        ).cost

    def profile(self, name, variance, threshold):
        """Both ends of the profile-likelihood interval."""
        centre, ends = self.params()[name], []

        def beyond(x):
            return (
                math.sqrt(max(2 * (self.profile_value(name, x) - self.value), 0) / variance)
                - threshold
            )

        for side in (-1, 1):
            step, inner = 0.02 * abs(centre), centre
            outer = centre + side * step
            while beyond(outer) < 0 and step < 1e3 * abs(centre):
                step *= 1.6
                inner, outer = outer, centre + side * step
                if name != "E" and outer <= 1e-3:
                    outer = 1e-3
                    break
            if name == "E" and (outer < 0 and not self.rising):
                outer = 0.0
            if name == "E" and (outer > 1 and self.rising):
                outer = 1.0
            ends.append(
                optimize.brentq(beyond, inner, outer, rtol=1e-10) if beyond(outer) > 0 else None
            )
        return ends


class Noise:
    """The variance of one run: pooled over the seeds if it explains the residuals, else that of the residuals."""

    def __init__(self, squares, dof, groups):
        within = sum(float(((g - g.mean()) ** 2).sum()) for g in groups)
        within_dof = sum(len(g) - 1 for g in groups)
        self.seed_sd = math.sqrt(within / within_dof) if within_dof else math.nan
        self.f = self.p = math.nan
        if within_dof and within > 0 and dof > 0:
            self.f = squares / dof / self.seed_sd**2
            self.p = float(stats.f.sf(self.f, dof, within_dof))
        by_seeds = within_dof >= max(min(dof, 8), 1) and within > 0 and not self.p < 0.05
        self.source = "seeds" if by_seeds else "residuals" if dof > 0 else "none"
        self.sd = self.seed_sd if by_seeds else math.sqrt(squares / dof) if dof > 0 else math.nan
        self.dof, self.seed_dof = (within_dof if by_seeds else max(dof, 0)), within_dof


def shared_shift(fit, codes, groups):
    """P-value of the F test that cells of equal code deviate together from the law; NaN if it cannot be tested."""
    rows, residual = fit.weighted()
    basis = orthonormal(rows)
    levels = np.unique(codes)
    if not 2 <= len(levels) <= min(64, len(codes) // 2):
        return math.nan
    own = (codes[:, None] == levels) * fit.root[:, None]
    shift = orthonormal(own - basis @ (basis.T @ own))
    moved = shift.T @ residual
    rest = residual - basis @ (basis.T @ residual) - shift @ moved
    n_left = len(residual) - basis.shape[1] - shift.shape[1]
    noise = Noise(float(rest @ rest), n_left, groups)
    if not shift.shape[1] or not noise.dof:
        return math.nan
    return float(
        stats.f.sf(moved @ moved / shift.shape[1] / noise.sd**2, shift.shape[1], noise.dof)
    )


def orthonormal(matrix):
    """Columns that span those of a matrix."""
    size = np.linalg.norm(matrix, axis=0)
    kept = matrix[:, size > 1e-9 * size.max()]
    left, values, _ = np.linalg.svd(kept / np.linalg.norm(kept, axis=0), full_matrices=False)
    return left[:, values > 1e-9 * values[0]]


class Study:
    """The runs of a report as arrays, and what follows from them for one metric."""

    def __init__(self, rows, metric, rising, size, data, serve_several):
        self.rows, self.metric, self.rising = rows, metric, rising
        self.serve_several = serve_several
        self.size, self.data = size, data
        cells = collections.defaultdict(list)
        for row in rows:
            cells[row[size], row[data]].append(row)
        self.cells = dict(sorted(cells.items()))
        self.places = np.array(list(self.cells), dtype=float)
        self.values = [np.array([row[metric] for row in cell]) for cell in self.cells.values()]
        self.mean = np.array([v.mean() for v in self.values])
        self.n = np.array([len(v) for v in self.values], dtype=float)
        dof = (self.n - 1).sum()
        within = sum(((v - v.mean()) ** 2).sum() for v in self.values)
        self.pooled = math.sqrt(within / dof) if dof else math.nan
        self.fits = {}

    def fit(self, law, keep=None, offset=None, axis=None):
        """A law of the cells that are kept; `axis` is that of a law of one size."""
        keep = np.ones(len(self.mean), bool) if keep is None else keep
        key = (law, keep.tobytes(), offset, axis)
        if key not in self.fits:
            sizes = [self.places[keep, i] for i in ((0, 1) if axis is None else (axis,))]
            self.fits[key] = Fit(law, sizes, self.mean[keep], self.n[keep], self.rising, offset)
        return self.fits[key]

    def noise(self, fit, keep=None):
        return Noise(2 * fit.value, len(fit.y) - fit.n_free, self.groups(keep))

    def groups(self, keep=None):
        chosen = range(len(self.values)) if keep is None else np.flatnonzero(keep)
        return [self.values[i] for i in chosen]

    def shifts(self, fit):
        """P-values of errors that cells of one model size, or of one data size, share."""
        return [shared_shift(fit, self.places[:, axis], self.groups()) for axis in (0, 1)]

    def is_plain(self, fit, keep=None):
        """Whether the seeds' noise, and the test part's, is all that the intervals count."""
        if self.serve_several or self.noise(fit, keep).source != "seeds":
            return False
        return len(fit.logs) < 2 or not any(p < SHARED for p in self.shifts(fit))

    def explained(self, fit):
        """R squared of the runs."""
        runs = np.concatenate(self.values)
        within = sum(((v - v.mean()) ** 2).sum() for v in self.values)
        return 1 - (2 * fit.value + within) / ((runs - runs.mean()) ** 2).sum()

    def test_error(self, keep=None):
        """The sampling error of the test part, which all runs share: their mean; 0 if the records do not tell it."""
        name = f"{self.metric}_stderr"
        chosen = set(map(tuple, self.places if keep is None else self.places[keep]))
        errors = [row.get(name) for row in self.rows if (row[self.size], row[self.data]) in chosen]
        return (
            math.nan
            if any(e is None for e in errors)
            else float(np.sqrt(np.mean(np.square(errors))))
        )


def read_rows(folder):
    """One dict per record: sizes, costs and metrics."""
    rows = {}
    for path in sorted(folder.glob("*/record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        config = record["config"]
        rows[path.parent.name] = {
            "grade": config["grade_name"],
            "seed": config["seed"],
            "n_samples": config["n_samples"],
            "max_len": config["grade"]["max_len"],
            "layers": config["grade"]["n_layers"],
            "heads": config["grade"]["n_heads"],
            "d": config["grade"]["d"],
            "taught": record.get("teacher") is not None,
            **{k: record[k] for k in (
                "n_params", "n_embedding_params", "flops_per_sample", "flops", "train_seconds",
                "samples_per_second", "peak_memory_gib",
            )},
            **record["metrics"],
        }  # fmt: skip
    return rows


def check_costs(ledger, rows, table):
    """Training FLOPs are three forward passes of each sample; the table holds what the records hold."""
    for name, row in rows.items():
        if row["taught"]:
            ledger.skip("FLOPs of a run with a teacher")
        else:
            ledger.same(
                "FLOPs of runs", name, row["flops"], 3 * row["flops_per_sample"] * row["n_samples"]
            )
    for line in table:
        row = rows[line["signature"]]
        for column, text in line.items():
            if column in row and isinstance(row[column], int | float):
                ledger.near(
                    "table.csv", f"{line['signature']} {column}", float(text), row[column], 0.0
                )


def check_cells(ledger, study, reported):
    ledger.same("cells", f"{study.metric}, how many", len(reported), len(study.cells))
    for cell in reported:
        key = (cell[study.size], cell[study.data])
        values = np.array([row[study.metric] for row in study.cells[key]])
        n, where = len(values), f"{study.metric} at {key}"
        error = study.pooled / math.sqrt(n)
        ledger.same("cells", f"{where}, seeds", cell["n_seeds"], n)
        ledger.near("cells", f"{where}, mean", cell["mean"], values.mean(), 1e-12)
        sd = values.std(ddof=1) if n > 1 else math.nan
        ledger.near("cells", f"{where}, sd", cell["seed_sd"], sd, 1e-12)
        ledger.near("cells", f"{where}, standard error", cell["mean_stderr"], error, 1e-12)


def check_law(ledger, study, law, fit):
    """Parameters, noise, criteria and intervals of the additive law of all cells."""
    metric, noise, mine = study.metric, law["noise"], fit.params()
    # the optimum is flat: a loss equal to a millionth leaves parameters free by a thousandth of their error
    within = sum(((v - v.mean()) ** 2).sum() for v in study.values)
    squares = 2 * fit.value + within
    ledger.near("loss of the fit", metric, law["objective"], squares, 1e-7 * squares)
    for name, value in mine.items():
        error = law["stderr"][name] or 0.0
        ledger.near(
            "parameters", f"{metric} {name}", law["params"][name], value, 2e-3 * error + 1e-9
        )
    n, k = len(study.mean), fit.n_free + 1
    aicc = (
        n * math.log(2 * fit.value / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1)
        if n - k > 1
        else math.nan
    )
    ledger.near("AICc", metric, law["aicc"], aicc, 1e-5)
    ledger.near("R2", metric, law["r_squared"], study.explained(fit), 1e-7)
    for i, place in enumerate(study.places):
        ledger.near(
            "law at the cells",
            f"{metric} {place}",
            law["cells"]["fitted"][i],
            float(fit.at(*place)),
            1e-6,
        )
    if study.serve_several:
        ledger.skip(
            f"noise and intervals of the joint law of {metric}: a run serves several cells",
            2 * len(mine) + 7,
        )
        return
    own, shifts = study.noise(fit), study.shifts(fit)
    ledger.near("noise", f"{metric}, sd of seeds", noise["seed_sd"], own.seed_sd, 1e-9)
    ledger.same("noise", f"{metric}, degrees of freedom of seeds", noise["seed_dof"], own.seed_dof)
    has_shift = any(p < SHARED for p in shifts)
    ledger.same("tests of shared errors", metric, noise["shared_sd"] > 0, has_shift)
    if not study.is_plain(fit):
        why = "cells share errors" if has_shift else "the residuals exceed the seeds"
        ledger.skip(f"intervals of the joint law of {metric}: {why}", 2 * len(mine) + 5)
        return
    for key, value in (("sd", own.sd), ("lack_of_fit", own.f), ("lack_of_fit_p", own.p)):
        ledger.near("noise", f"{metric}, {key}", noise[key], value, 1e-5 * abs(value) + 1e-12)
    ledger.same("noise", f"{metric}, source", noise["source"], own.source)
    ledger.same("noise", f"{metric}, degrees of freedom", noise["dof"], own.dof)
    for name in mine:
        check_interval(ledger, study, fit, own, name, law["intervals"][name], law["level"])


def interval(study, fit, noise, name, level=0.95, keep=None):
    """Ends of a profile interval; that of E is wider by the error of the test part, which moves it as a whole."""
    dof, factor = noise.dof, 1.0
    error = study.test_error(keep)
    if name == "E" and error > 0 and fit.offset is None:
        own = fit.covariance(noise.sd**2)[0, 0]
        factor = math.sqrt((own + error**2) / own)
        dof = (own + error**2) ** 2 / (own**2 / noise.dof)
    return fit.profile(name, noise.sd**2, factor * stats.t.ppf(0.5 + level / 2, dof))


def check_interval(ledger, study, fit, noise, name, reported, level):
    ends = interval(study, fit, noise, name, level)
    for side, end in zip(("lower", "upper"), ends, strict=True):
        if end is None or reported[f"open_{side}"]:
            ledger.same(
                "intervals",
                f"{study.metric} {name}, open {side}",
                reported[f"open_{side}"],
                end is None,
            )
            continue
        # the report accepts an end within a thousandth of the threshold
        half = abs(end - fit.params()[name])
        ledger.near("intervals", f"{study.metric} {name}, {side}", reported[side], end, 4e-3 * half)


def cost_of(study):
    """FLOPs of a sample as a power of the size, fitted in logs to each size's largest runs: a function of N and D."""
    most = collections.defaultdict(int)
    for row in study.rows:
        most[row[study.size]] = max(most[row[study.size]], row[study.data])
    largest = [row for row in study.rows if row[study.data] == most[row[study.size]]]
    log_n = np.log([row[study.size] for row in largest])
    each = np.log([row["flops"] / row[study.data] for row in largest])
    slope, level = np.polyfit(log_n, each, 1)
    return lambda n, d: math.exp(level) * n**slope * d, slope, level


def best_split(fit, budget, slope, level):
    """The size that is best at a cost: where the law's derivatives along the curve of equal cost cancel."""

    def worth(log_n):
        d = budget / math.exp(level) / math.exp(slope * log_n)
        value = float(fit.at(math.exp(log_n), d))
        return -value if fit.rising else value

    grid = np.linspace(fit.origin[0] - 25, fit.origin[0] + 25, 2001)
    k = int(np.argmin([worth(x) for x in grid]))
    found = optimize.minimize_scalar(worth, bracket=(grid[k - 1], grid[k], grid[k + 1]), tol=1e-12)
    n = math.exp(found.x)
    return n, budget / math.exp(level) / n**slope


def check_gains(ledger, study, law, fit, reported):
    if not reported:
        return
    metric, (cost, slope, level) = study.metric, cost_of(study)
    largest = max(map(tuple, study.places), key=lambda place: cost(*place))
    budget = cost(*largest)
    here, there = (best_split(fit, b, slope, level) for b in (budget, 10 * budget))
    noise = study.noise(fit)
    for found, place in zip(reported, (largest, here), strict=False):
        n, d = place
        for name, mine in zip(("N", "D"), place, strict=True):
            ledger.near(
                "best splits",
                f"{metric} {found['from']} {name}",
                found["sizes"][name],
                mine,
                1e-3 * mine,
            )
        for gain, after in zip(found["more_of"], ((10 * n, d), (n, 10 * d), there), strict=True):
            where = f"{metric}, {gain['what']} from {found['from']}"
            for one, mine in zip(gain["after"], after, strict=True):
                ledger.near("best splits", where, one, mine, 1e-3 * mine)
            change = float(fit.at(*after) - fit.at(*place)) * (1 if study.rising else -1)
            value, low, high = gain["improvement"]
            half = (high - low) / 2 if low is not None else 0.0
            ledger.near("gains", where, value, change, 4e-3 * half + 1e-9)
            if not study.is_plain(fit):
                ledger.skip(f"intervals of the gains of {metric}: as those of its law", 2)
                continue
            slope_of = fit.gradient(*after) - fit.gradient(*place)
            sd = math.sqrt(slope_of @ fit.covariance(noise.sd**2) @ slope_of)
            wide = sd * stats.t.ppf(0.975, noise.dof)
            ledger.near("intervals of gains", where, half, wide, 1e-2 * wide)


def held_out_scores(study, law, cut):
    """Scores of a law that is fitted below a cut, and predictions by cell."""
    sizes, data = study.places.T
    above = np.zeros(len(sizes), bool)
    if cut in ("size", "corner"):
        above |= sizes == sizes.max()
    if cut in ("data", "corner"):
        above |= data == data.max()
    axis = data if cut == "data" else sizes
    fit = study.fit(law, ~above)
    predicted = fit.at(*study.places[above].T)
    error = predicted / study.mean[above] - 1
    fitted = fit.at(*study.places[~above].T) / study.mean[~above] - 1
    return {
        "n_train": int(study.n[~above].sum()),
        "n_test": int(above.sum()),
        "reach": axis[above].max() / axis[~above].max(),
        "mean_absolute_error": float(np.abs(error).mean()),
        "mean_error": float(error.mean()),
        "worst_error": float(error[np.abs(error).argmax()]),
        "fit_error": float(np.sqrt(np.average(fitted**2, weights=study.n[~above]))),
    }, {tuple(place): float(p) for place, p in zip(study.places[above], predicted, strict=True)}


def check_held_out(ledger, study, reported):
    for score in reported:
        where = f"{study.metric}, {score['cut']}, {score['law']}"
        mine, _ = held_out_scores(study, score["law"], score["cut"])
        for name, value in mine.items():
            # laws that the cells below a cut hardly determine predict along a flat valley
            loose = score["law"] in ("bottleneck", "kaplan") or score["status"] != "converged"
            tolerance = (2e-3 if loose else 2e-5) * abs(value) + (2e-5 if loose else 1e-7)
            ledger.near("held-out scores", f"{where}, {name}", score[name], value, tolerance)
        ledger.skip("share of held-out cells inside their interval (JSON)")


# The page


def tables_of(markdown):
    """Lists of rows (dicts) with the headings above them, and the lines that are in no table."""
    heading, tables, rest, lines = ["", "", ""], [], [], markdown.splitlines()
    i = 0
    while i < len(lines):
        line = lines[i]
        if match := re.match(r"(#+) (.*)", line):
            depth = len(match[1])
            heading = [*heading[: depth - 1], match[2], "", ""][:3]
        if line.startswith("| ") and i + 1 < len(lines) and lines[i + 1].startswith("| ---"):
            header, rows = cells_of(line), []
            i += 2
            while i < len(lines) and lines[i].startswith("|"):
                rows.append(dict(zip(header, cells_of(lines[i]), strict=True)))
                i += 1
            tables.append((heading[1], heading[2], rest[-1] if rest else "", rows))
            continue
        if line.strip():
            rest.append(line)
        i += 1
    return tables, rest


def cells_of(line):
    line = line.replace(r"\|", "\0")
    return [
        unescaped(part.strip().replace("\0", "|")) for part in line.strip().strip("|").split("|")
    ]


def unescaped(text):
    return re.sub(r"\\([\[\]_<>|*])", r"\1", text)


def estimate_of(text):
    """`0.4 [0.3, 0.5]` as three texts."""
    one = r"(\S+(?: × 10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)?)"
    match = re.fullmatch(rf"{one}(?: \[{one}, {one}\])?(?: \(fixed\))?", text)
    return match.groups() if match else (text, None, None)


class PageCheck:
    def __init__(self, ledger, studies, document):
        self.ledger, self.studies, self.document = ledger, studies, document
        self.seen = set()

    def see(self, *texts):
        self.seen.update(t.strip("%") for text in texts if text for t in numbers_in(text))

    def run(self, markdown):
        tables, rest = tables_of(markdown)
        for section, part, before, rows in tables:
            study = self.studies.get(unescaped(section))
            if study is not None and part == "Cells":
                self.cells(study, rows)
            elif study is not None and part == "Joint law":
                self.joint(study, rows)
            elif study is not None and part == "One axis at a time":
                self.single(study, rows)
            elif study is not None and "mean |error|" in rows[0]:
                self.held_out(study, rows)
            elif study is not None and "holds it" in rows[0]:
                self.largest(study, rows)
            elif "more of" in rows[0]:
                self.gains(rows)
            elif section == "All cells":
                name = unescaped(before).removeprefix("All cells of ").rstrip(".")
                self.all_cells(self.studies[name], rows)
            elif "FLOPs/sample" in rows[0]:
                self.grades(rows)
            else:
                n = sum(len(numbers_in(text)) for row in rows for text in row.values())
                self.ledger.skip(
                    f"table of {section or 'the first section'} ({', '.join(rows[0])})", n
                )
        self.prose(rest)

    def cells(self, study, rows):
        by_name = collections.defaultdict(list)
        for (n, d), cell in study.cells.items():
            by_name[cell[0]["grade"], n].append((d, cell))
        for row in rows:
            grade, n, *texts = row.values()
            found = by_name[grade, parsed(n)[0]]
            for (_, cell), text in zip(found, [t for t in texts if t != "–"], strict=True):
                value, count = re.fullmatch(r"(\S+) \((\d+)\)", text).groups()
                mean = np.mean([run[study.metric] for run in cell])
                self.ledger.printed("page: cells", f"{study.metric} {grade}", value, mean)
                self.ledger.same(
                    "page: cells", f"{study.metric} {grade}, seeds", int(count), len(cell)
                )
            self.see(*texts)

    def joint(self, study, rows):
        truth = self.document[study.metric]["true_limit"]
        for column in [name for name in rows[0] if name != "fit"]:
            held = column != "joint"
            fit = study.fit("additive", offset=truth if held else None)
            noise = study.noise(fit)
            for row in rows:
                name, text = row["fit"], row[column]
                where = f"{study.metric}, {column}, {name}"
                self.see(text)
                if name in fit.params():
                    self.estimate(study, fit, noise, name, text, where)
                elif name == "R²":
                    self.ledger.printed("page: laws", where, text, study.explained(fit))
                elif name == "noise sd of a run" and study.is_plain(fit):
                    self.ledger.printed("page: laws", where, text, noise.sd)
                elif name != "status":
                    self.ledger.skip(f"page: {name} of the joint law")

    def estimate(self, study, fit, noise, name, text, where, keep=None):
        value, low, high = estimate_of(text)
        mine = fit.params()[name]
        _, half = parsed(value)
        # without a decimal point, three digits are shown
        slack = 5e-3 * abs(mine) if half == 0 and low is not None else 0.05 * half
        self.ledger.printed("page: laws", where, value, mine, slack)
        if low is None:
            return
        if not study.is_plain(fit, keep):
            self.ledger.skip("page: intervals of laws whose cells may share errors", 2)
            return
        for text_of, end in zip(
            (low, high), interval(study, fit, noise, name, keep=keep), strict=True
        ):
            if text_of == "open" or end is None:
                self.ledger.same("page: intervals of laws", where, text_of == "open", end is None)
            else:
                self.ledger.printed(
                    "page: intervals of laws", where, text_of, end, slack=4e-3 * abs(end - mine)
                )

    def single(self, study, rows):
        grades = {cell[0]["grade"]: n for (n, _), cell in study.cells.items()}
        for row in rows:
            self.see(*row.values())
            if row["x"] == study.data:
                keep, axis = study.places[:, 0] == grades[row["at"].removeprefix("grade ")], 1
            else:
                size, half = parsed(row["at"].removeprefix("D = "))
                keep, axis = np.abs(study.places[:, 1] - size) <= half + Z, 0
            if row["status"] not in ("converged", "not identified", "extrapolates"):
                self.ledger.skip(f"page: laws of one size with status {row['status']}", 3)
                continue
            fit = study.fit("saturating", keep, axis=axis)
            noise = study.noise(fit, keep)
            for name in ("E", "A", "alpha"):
                where = f"{study.metric}, {row['x']} at {row['at']}, {name}"
                self.estimate(study, fit, noise, name, row[name], where, keep)

    def held_out(self, study, rows):
        for row in rows:
            self.see(*row.values())
            where = f"{study.metric}, {row['held out']}, {row['law']}"
            mine, _ = held_out_scores(study, row["law"], row["held out"])
            loose = row["law"] in ("bottleneck", "kaplan") or row["status"] != "converged"
            for column, name in (
                ("runs below", "n_train"), ("cells above", "n_test"), ("reach", "reach"),
                ("mean |error|", "mean_absolute_error"), ("mean error", "mean_error"), ("worst", "worst_error"),
            ):  # fmt: skip
                slack = (
                    (2e-3 if loose else 2e-5) * abs(mine[name]) + 1e-6 if "error" in name else 0.0
                )
                self.ledger.printed(
                    "page: held-out scores", f"{where}, {column}", row[column], mine[name], slack
                )
            fit = study.fit(row["law"])
            n, k = len(study.mean), fit.n_free + 1
            aicc = n * math.log(2 * fit.value / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1)
            self.ledger.printed("page: AICc", where, row["AICc of all cells"], aicc, slack=0.01)
            self.ledger.skip("page: share of held-out cells inside their interval")

    def largest(self, study, rows):
        for row in rows:
            self.see(*row.values())
            cut, law = row["held out"], row["law"]
            _, predicted = held_out_scores(study, law, cut)
            size = [row.get(study.size) or row["N"], row.get(study.data) or row["D"]]
            close = [
                place for place in predicted
                if all(abs(p - parsed(s)[0]) <= parsed(s)[1] + Z for p, s in zip(place, size, strict=True))
            ]  # fmt: skip
            where = f"{study.metric}, {cut}, {law}"
            self.ledger.same("page: largest held-out cells", where, len(close), 1)
            measured = np.mean([run[study.metric] for run in study.cells[close[0]]])
            self.ledger.printed("page: largest held-out cells", where, row["measured"], measured)
            slack = (
                2e-3 * abs(predicted[close[0]] - measured) if law in ("bottleneck", "kaplan") else 0
            )
            self.ledger.printed(
                "page: largest held-out cells", where, row["predicted"], predicted[close[0]], slack
            )
            self.ledger.skip("page: prediction intervals of held-out cells", 2)

    def gains(self, rows):
        """The page against the document, whose numbers are compared with the records."""
        for row in rows:
            self.see(*row.values())
            place = {"largest run": "the largest run", "best split": "the best split of its cost"}[
                row["from"]
            ]
            found = next(f for f in self.document[row["metric"]]["gains"] if f["from"] == place)
            what = row["more of"].replace("×", "x").replace("FLOPs", "flops")
            gain = next(g for g in found["more_of"] if g["what"] == what)
            for text, mine in zip(
                estimate_of(row["improvement"]), gain["improvement"], strict=True
            ):
                self.ledger.printed("page: gains", f"{row['metric']}, {row['more of']}", text, mine)
            study = self.studies[row["metric"]]
            beyond = max(*(np.array(gain["after"]) / study.places.max(axis=0)), 1.0)
            self.ledger.printed(
                "page: gains",
                f"{row['metric']}, beyond the runs",
                row["× beyond the runs"],
                beyond,
                0.5 if beyond >= 10 else 0,
            )

    def all_cells(self, study, rows):
        fit = study.fit("additive")
        for row in rows:
            self.see(*row.values())
            place = (parsed(row["N"])[0], parsed(row["D"])[0])
            cell = study.cells[place]
            where = f"{study.metric} at {place}"
            mean, error = (
                np.mean([run[study.metric] for run in cell]),
                study.pooled / math.sqrt(len(cell)),
            )
            law = float(fit.at(*place))
            for column, mine in (
                ("seeds", len(cell)), ("mean", mean), ("±", error), ("law", law),
                ("FLOPs per run", np.median([run["flops"] for run in cell])),
                ("hours, all runs", sum(run["train_seconds"] for run in cell) / 3600),
                ("peak GiB", max(run["peak_memory_gib"] for run in cell)),
            ):  # fmt: skip
                self.ledger.printed(
                    "page: all cells",
                    f"{where}, {column}",
                    row[column],
                    mine,
                    1e-6 * (column == "law"),
                )
            self.ledger.printed(
                "page: all cells", f"{where}, off", row["off"], (mean - law) / error, 2e-3
            )

    def grades(self, rows):
        every = next(iter(self.studies.values())).rows
        for row in rows:
            self.see(*row.values())
            runs = [run for run in every if run["grade"] == row["grade"]]
            for column, mine in (
                ("layers", runs[0]["layers"]), ("heads", runs[0]["heads"]), ("d", runs[0]["d"]),
                ("behaviours L", runs[0]["max_len"]), ("parameters N", runs[0]["n_params"]),
                ("embedding", runs[0]["n_embedding_params"]), ("FLOPs/sample", runs[0]["flops_per_sample"]),
                ("samples/s", np.median([run["samples_per_second"] for run in runs])),
                ("peak GiB", np.median([run["peak_memory_gib"] for run in runs])),
                ("hours in all", sum(run["train_seconds"] for run in runs) / 3600),
            ):  # fmt: skip
                if column in row:
                    # speeds have three digits, also where they are printed whole
                    slack = 5e-3 * mine if column == "samples/s" else 0.0
                    where = f"{row['grade']}, {column}"
                    self.ledger.printed("page: what was run", where, row[column], mine, slack)

    def prose(self, lines):
        """Best splits are recomputed; of the rest, what repeats a compared number, and what does not."""
        for line in lines:
            text = unescaped(line)
            if match := re.match(r"- \*\*Best use of .*?\*\*: N = (\S+), D = (\S+) \((.*)\)", text):
                self.best_use(text, match)
                continue
            for token in numbers_in(text):
                if token.strip("%") in self.seen:
                    self.ledger.checked["page: sentences, numbers that repeat a compared one"] += 1
                else:
                    self.ledger.skip("page: numbers in sentences")

    def best_use(self, text, match):
        metric = next(iter(self.studies))
        study = self.studies[metric]
        fit, (cost, slope, level) = study.fit("additive"), cost_of(study)
        budget = max(cost(*place) for place in study.places) * (10 if "10 × the" in text else 1)
        n, d = best_split(fit, budget, slope, level)
        for printed, mine in ((match[1], n), (match[2], d)):
            self.ledger.printed("page: best use", text[:40], printed, mine, slack=1e-3 * mine)
        value = re.search(rf"{re.escape(metric)} (\S+) \[", match[3])
        self.ledger.printed("page: best use", text[:40], value[1], float(fit.at(n, d)), slack=1e-6)
        self.ledger.skip("page: intervals of best splits", 6)


def numbers_in(text):
    return [
        m[0]
        for m in re.finditer(
            r"(?<![\w.])[+-]?\d[\d,]*\.?\d*(?:e[+-]?\d+| × 10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)?[kMB%×]?(?![\w^])",
            text,
        )
    ]


def recompute(folder):
    """Compare the report in a study's folder with its records; return the ledger."""
    ledger = Ledger()
    document = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    if len(document["variants"]) != 1:
        sys.exit(f"{folder}: the report has {len(document['variants'])} variants, expected one")
    variant = document["variants"][0]
    lines = (folder / "table.csv").read_text(encoding="utf-8").splitlines()
    header = lines[0].split(",")
    table = [dict(zip(header, split_csv(line), strict=True)) for line in lines[1:]]
    rows = read_rows(folder)
    check_costs(ledger, rows, table)
    chosen = [rows[line["signature"]] for line in table]
    serve_several = any(line.get("trajectory") for line in table)
    studies = {}
    for metric, reported in variant["metrics"].items():
        law = reported["law"]
        if law["law"]["name"] != "additive" or law["loss"] != "gaussian" or law["fixed"]:
            sys.exit(f"{folder}: {metric} is not fitted by least squares of the additive law")
        study = Study(
            chosen, metric, law["law"]["rising"], variant["size"], variant["data"], serve_several
        )
        studies[metric] = study
        fit = study.fit("additive")
        check_cells(ledger, study, reported["cells"])
        check_law(ledger, study, law, fit)
        check_gains(ledger, study, law, fit, reported["gains"])
        check_held_out(ledger, study, reported["held_out"])
    PageCheck(ledger, studies, variant["metrics"]).run(
        (folder / "report.md").read_text(encoding="utf-8")
    )
    return ledger


def split_csv(line):
    """Fields of a line, of which some are quoted."""
    return [a or b for a, b in re.findall(r'(?:^|,)(?:"([^"]*)"|([^,]*))', line)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "folder", type=Path, help="a study's folder of runs, with report.json and report.md"
    )
    parser.add_argument("-o", "--output", type=Path, help="write the result as JSON")
    arguments = parser.parse_args()
    ledger = recompute(arguments.folder)
    n_left = sum(ledger.left_out.values())
    print(
        f"{sum(ledger.checked.values())} numbers compared, {len(ledger.failed)} differ, {n_left} not compared"
    )
    for kind, count in sorted(ledger.checked.items()):
        print(f"  compared  {count:>5}  {kind}")
    for kind, count in sorted(ledger.left_out.items()):
        print(f"  not       {count:>5}  {kind}")
    for line in ledger.failed:
        print(f"  DIFFERS   {line}")
    if arguments.output:
        result = {
            "date": dt.date.today().isoformat(),
            "command": f"python tests/attack/recompute_report.py runs/{arguments.folder.name}",
            "compared": dict(ledger.checked),
            "differ": ledger.failed,
            "not_compared": dict(ledger.left_out),
        }
        text = json.dumps(result, indent=2, ensure_ascii=False)
        arguments.output.write_text(text + "\n", encoding="utf-8")
    return 1 if ledger.failed else 0


if __name__ == "__main__":
    sys.exit(main())
