"""The result of a fit: a frozen value with a status, predictions, a summary and a JSON form."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from analysis.fit.fit_options import FitOptions, IntervalMethod
from analysis.fit.saved_fit import document_of, fields_of
from analysis.laws import Law
from analysis.uncertainty import Band, Interval, Noise, Part, combined, format_estimate
from scaling.arrays import FloatArray
from scaling.notebook_html import notebook_table

__all__ = ["LawFit", "Status"]


Status = Literal["converged", "at_bound", "not_identified", "too_few_points", "not_converged"]


@dataclass(frozen=True, repr=False, eq=False)
class LawFit:
    """A law fitted to a table.

    Attributes:
        law: the form.
        columns: table column of each variable of the law.
        y: column of the metric.
        options: how it was fitted.
        params: estimates with sizes in their own units; NaN if the data contain nothing about one.
        stderr: standard errors (Wald or bootstrap), NaN if there is none.
        intervals: of the free parameters.
        status: only "converged" can be trusted without reading `message`.
        message: the meaning of the status for this fit, and a remedy.
        notes: further remarks: rows left out, lack of fit, outliers, shared effects.
        objective: the loss, summed over rows: r^2, or Huber's rho.
        n_points: rows used.
        n_cells: distinct sizes among them.
        n_free: parameters estimated.
        noise: of one run.
        r_squared: of the rows on the scale of the residuals; says nothing about E or the form.
        aicc: of squared residuals of the cells; NaN with too few cells.
        condition: of the scaled Jacobian; above about 100 the parameters can hardly be separated.
        spans: smallest and largest size by variable.
        at_bound: parameters that ended at a bound.
        unidentified: parameters whose interval has an open side or spans a factor of four.
        nfev: evaluations of the loss.
        cells: one row per fitted point: sizes in the order of the law's variables, measured, fitted,
            residual, n_rows.
        theta, origin: inner parameters for log sizes measured from `origin`.
        parts: of the inner parameters' covariance, by source.
        simpler_p: p-value of the simpler law that this one contains (`Law.simpler`); NaN if there is none.
    """

    law: Law
    columns: dict[str, str]
    y: str
    options: FitOptions
    params: dict[str, float]
    stderr: dict[str, float]
    intervals: dict[str, Interval]
    status: Status
    message: str
    notes: tuple[str, ...]
    objective: float
    n_points: int
    n_cells: int
    n_free: int
    noise: Noise
    r_squared: float
    aicc: float
    condition: float
    spans: dict[str, tuple[float, float]]
    at_bound: tuple[str, ...]
    unidentified: tuple[str, ...]
    nfev: int
    cells: pd.DataFrame
    theta: FloatArray = field(default_factory=lambda: np.empty(0))
    origin: tuple[float, ...] = ()
    parts: tuple[Part, ...] = ()
    simpler_p: float = float("nan")

    @property
    def success(self) -> bool:
        """Whether the data determine the law, so that the numbers can be used."""
        return self.status == "converged"

    @property
    def has_curve(self) -> bool:
        """Whether there is a curve, however uncertain its parameters are."""
        return bool(len(self.theta))

    @property
    def cell_sizes(self) -> FloatArray:
        """Sizes of the fitted cells, (n, variables)."""
        return self.cells.iloc[:, : len(self.law.variables)].to_numpy(dtype=float)

    @property
    def scaled_residuals(self) -> FloatArray:
        """Residuals of the fitted cells in units of their noise, (n,); without seeds, of their own scatter."""
        scaled = self.cells["residual"] * np.sqrt(self.cells["n_rows"])
        unit = self.noise.sd if self.noise.dof else float(scaled.std())
        return np.asarray(scaled / unit)

    @property
    def fixed(self) -> dict[str, float]:
        """The held parameters, including those that the form itself fixes."""
        return {**self.law.fixed, **self.options.fixed}

    @property
    def interval_method(self) -> IntervalMethod:
        """The kind of the intervals; "none" if there are none."""
        return self.options.interval_method if self.intervals else "none"

    @property
    def shown(self) -> tuple[str, ...]:
        """The parameters to tell people: without an offset, the formula has no E."""
        return tuple(name for name in self.law.names if name not in self.law.fixed)

    def predict(self, *sizes: npt.ArrayLike) -> FloatArray:
        """The law's value at sizes, one argument for each variable, e.g. `(n_params, n_samples)`."""
        return self.band(*sizes).mean

    def band(
        self, *sizes: npt.ArrayLike, level: float | None = None, n_runs: npt.ArrayLike = 1
    ) -> Band:
        """The law with confidence and prediction intervals (delta method) at sizes.

        Args:
            sizes: one array for each variable.
            level: of the intervals; default: the fit's own.
            n_runs: number of runs whose mean the prediction interval covers.

        Raises:
            ValueError: a wrong number of arguments, or the fit has no curve.
        """
        if len(sizes) != len(self.law.variables):
            raise ValueError(f"expected {len(self.law.variables)} sizes: {self.law.variables}")
        if not self.has_curve:
            raise ValueError(f"there is no curve: {self.message}")
        grids = np.broadcast_arrays(*(np.asarray(size, dtype=float) for size in sizes))
        logs = [np.log(g).ravel() - o for g, o in zip(grids, self.origin, strict=True)]
        runs = np.broadcast_to(np.asarray(n_runs, dtype=float), grids[0].shape).ravel()
        one = 0.5 + (level or self.options.level) / 2
        # Very far from the runs, powers and squares overflow; the results are then infinite or NaN.
        with np.errstate(over="ignore", invalid="ignore"):
            mean = self.law.evaluate(logs, self.theta[None])[0]
            slope = self.law.jacobian(logs, self.theta)
            scale = mean if self.options.residual_scale == "log" else np.ones_like(mean)
            widths = self._widths(slope / scale[:, None], runs, one)
            ends = [self._end(mean, sign * width) for width in widths for sign in (-1.0, 1.0)]
        outside = np.zeros(mean.shape, dtype=bool)
        for variable, grid in zip(self.law.variables, grids, strict=True):
            low, high = self.spans[variable]
            outside |= (grid.ravel() < low * (1 - 1e-9)) | (grid.ravel() > high * (1 + 1e-9))
        shape = grids[0].shape
        return Band(*(array.reshape(shape) for array in (mean, *ends, outside)))

    def gain(
        self, before: Sequence[float], after: Sequence[float], level: float | None = None
    ) -> tuple[float, Interval | None]:
        """How the law's value changes from one size to another, with its confidence interval (delta method).

        The errors of both values largely cancel, so this is narrower than the difference of two bands.

        Args:
            before: one size for each variable.
            after: the same.
            level: of the interval; default: the fit's own.

        Returns:
            Value after less value before, and its interval; None if the fit has no measure of noise.

        Raises:
            ValueError: a wrong number of sizes, or the fit has no curve.
        """
        ends = [self.band(*sizes).mean for sizes in (before, after)]
        change = float(ends[1] - ends[0])
        if not self.noise.dof:
            return change, None
        slopes = [
            self.law.jacobian(
                [np.array([np.log(s) - o]) for s, o in zip(sizes, self.origin, strict=True)],
                self.theta,
            )
            for sizes in (before, after)
        ]
        variance, dof = combined(self.parts, slopes[1] - slopes[0])
        one = 0.5 + (level or self.options.level) / 2
        width = float(np.sqrt(variance[0]) * special.stdtrit(dof[0], one))
        return change, Interval(change - width, change + width)

    def _widths(
        self, slope: FloatArray, runs: FloatArray, one: float
    ) -> tuple[FloatArray, FloatArray]:
        """Half widths of the intervals of the law and of a prediction, for slopes (n, p) by theta."""
        if not self.noise.dof:
            return np.full(len(slope), np.nan), np.full(len(slope), np.nan)
        variance, dof = combined(self.parts, slope)
        noise = self.noise
        own = (noise.sd**2 + noise.run_sd**2) / runs + noise.shared_sd**2 + noise.misfit_sd**2
        both = variance + own
        with np.errstate(divide="ignore", invalid="ignore"):
            dof_both = both**2 / (variance**2 / dof + own**2 / noise.dof)
        dof_both = np.where(both > 0, dof_both, noise.dof)
        law = np.sqrt(variance) * special.stdtrit(dof, one)
        return np.asarray(law), np.asarray(np.sqrt(both) * special.stdtrit(dof_both, one))

    def _end(self, mean: FloatArray, width: FloatArray) -> FloatArray:
        """One end of an interval, cut off at the metric's limit."""
        end = mean * np.exp(width) if self.options.residual_scale == "log" else mean + width
        return (
            np.minimum(end, self.law.bound) if self.law.rising else np.maximum(end, self.law.bound)
        )

    def sources(self, name: str) -> dict[str, float]:
        """Shares of a parameter's variance by source: seeds (or settings), residuals, runs, a size, lack of fit, the test part.

        Empty without a standard error, and for amplitudes and their ratios, whose error is that of an exponent.
        """
        if name in (*self.fixed, *self.law.scales) or not self.noise.dof:
            return {}
        i = self.law.names.index(name)
        found = {part.source: float(part.covariance[i, i]) for part in self.parts}
        if self.noise.source == "settings" and "seeds" in found:
            found["settings"] = found.pop("seeds")
        if name == "E" and self.noise.test_sd:
            found["test part"] = self.noise.test_sd**2
        total = sum(found.values())
        return {source: value / total for source, value in found.items()} if total > 0 else {}

    def noise_text(self) -> str:
        """The noise by source, and the sources of the error of E."""
        noise = self.noise
        origin = {"settings": "rows that differ in more than the seed"}.get(
            noise.source, noise.source
        )
        terms = [f"{noise.sd:.3g} of a run by itself (from {origin}, {noise.dof} dof)"]
        if noise.run_sd:
            terms.append(f"{noise.run_sd:.3g} shared by the cells of a run")
        if noise.shared_sd:
            terms.append(f"{noise.shared_sd:.3g} shared by cells of equal size")
        if noise.misfit_sd:
            terms.append(f"{noise.misfit_sd:.3g} of curvature that the law leaves")
        if noise.test_sd:
            terms.append(f"{noise.test_sd:.3g} of the test part, shared by all")
        text = "noise sd   " + ", ".join(terms)
        shares = self.sources("E")
        if len(shares) > 1:
            by_share = sorted(shares.items(), key=lambda item: -item[1])
            # a source that is a difference of mean squares can come out below zero
            text += "; E's variance: " + ", ".join(f"{s} {max(v, 0.0):.0%}" for s, v in by_share)
        return text

    def estimate(self, name: str) -> str:
        """A parameter with its interval, e.g. `0.231 [0.214, 0.249]`."""
        if name in self.fixed:
            return f"{self.params[name]:.4g} (fixed)"
        return format_estimate(self.params[name], self.intervals.get(name))

    def summary(self) -> str:
        """The fit as a few aligned lines of text."""
        sizes = ", ".join(f"{v} = {self.columns[v]}" for v in self.law.variables)
        lines = [
            f"{self.y} = {self.law.equation}   ({self.law.name}: {sizes})",
            f"  status     {self.status}" + ("" if self.success else f": {self.message}"),
        ]
        if self.has_curve:
            lines += [f"  {name:<10} {self.estimate(name)}" for name in self.shown]
            delta = self.options.threshold
            kind = f"huber {delta:g}" if delta is not None else "gaussian"
            lines.append(
                f"  {self.n_points} runs in {self.n_cells} cells, {self.n_free} parameters, "
                f"{kind} loss of {self.options.residual_scale} residuals: {self.objective:.6g}"
            )
            lines.append(f"  {self.noise_text()}")
            lines.append(
                f"  R2 {self.r_squared:.4f}, condition {self.condition:.0f}"
                f", {self.options.level:.0%} intervals: {self.interval_method}"
            )
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def to_document(self) -> dict[str, Any]:
        """The fit as plain JSON values; NaN and infinity become null."""
        return document_of(self)

    def to_json(self) -> str:
        """The fit as one JSON document."""
        return json.dumps(self.to_document(), indent=2, allow_nan=False)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "LawFit":
        """Rebuild a fit from `to_document`."""
        return cls(**fields_of(document))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value:.4g}" for name, value in self.params.items())
        return f"LawFit({self.y}, {self.law.name}, {self.status}: {values})"

    def _repr_html_(self) -> str:
        sizes = ", ".join(f"{v} = {self.columns[v]}" for v in self.law.variables)
        caption = f"{self.y} = {self.law.equation} ({self.law.name}: {sizes}): {self.status}"
        level = f"{self.options.level:.0%} interval"
        rows = [(name, self.estimate(name)) for name in self.shown] if self.has_curve else []
        counts = f"{self.n_points} runs in {self.n_cells} cells"
        notes = [counts, *([] if self.success else [self.message]), *self.notes]
        return notebook_table(caption, ["parameter", f"estimate [{level}]"], rows, notes)
