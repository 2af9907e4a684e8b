"""The result of a fit: a frozen value with its status; predicts, prints itself, goes to JSON and back."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from analysis.laws import Law, build_law
from analysis.uncertainty import Band, Interval, Noise, Part, combined, format_estimate
from scaling.arrays import FloatArray

__all__ = ["LawFit", "Status"]


Status = Literal["converged", "at_bound", "not_identified", "too_few_points", "not_converged"]


@dataclass(frozen=True, repr=False, eq=False)
class LawFit:
    """A law fitted to a table.

    Attributes:
        law: the form.
        columns: table column of each variable of the law.
        y: column of the metric.
        params: estimates with sizes in their own units; NaN where the data say nothing at all.
        stderr: standard errors (Wald), NaN where there is none.
        intervals: of the free parameters.
        status: "converged" is the only one to trust without reading `message`.
        message: what the status means here, and what to do.
        notes: further remarks: rows left out, lack of fit, outliers, shared effects.
        loss, delta, residual: what was minimised; delta is None for the squared loss.
        objective: its value, summed over rows: r^2, or Huber's rho.
        n_points: rows used.
        n_cells: distinct sizes among them.
        n_free: parameters estimated.
        noise: of one row.
        r_squared: of the rows on the metric's scale; blind to E and to the form, compare intervals.
        aicc: of squared residuals of the cells; NaN with too few cells.
        condition: of the scaled Jacobian; beyond about 100 the parameters can hardly be told apart.
        spans: smallest and largest size by variable.
        at_bound: parameters that ended at a bound.
        unidentified: parameters whose interval has an open side or spans a factor of four.
        fixed: parameters that were held.
        interval_method, level, seed, n_draws: how the intervals were made.
        nfev: evaluations of the loss.
        cells: one row per fitted point: sizes, measured, fitted, residual, n_rows.
        theta, origin: inner parameters for log sizes measured from `origin`.
        parts: of the inner parameters' covariance, by source.
    """

    law: Law
    columns: dict[str, str]
    y: str
    params: dict[str, float]
    stderr: dict[str, float]
    intervals: dict[str, Interval]
    status: Status
    message: str
    notes: tuple[str, ...]
    loss: Literal["gaussian", "huber"]
    delta: float | None
    residual: Literal["raw", "log"]
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
    fixed: dict[str, float]
    interval_method: Literal["profile", "bootstrap", "wald", "none"]
    level: float
    seed: int
    n_draws: int
    nfev: int
    cells: pd.DataFrame
    theta: FloatArray = field(default_factory=lambda: np.empty(0))
    origin: tuple[float, ...] = ()
    parts: tuple[Part, ...] = ()

    @property
    def success(self) -> bool:
        """Whether the numbers may be used as they stand."""
        return self.status == "converged"

    @property
    def has_curve(self) -> bool:
        """Whether there is a curve to draw, whatever its parameters are worth."""
        return bool(len(self.theta))

    def predict(self, *sizes: npt.ArrayLike) -> FloatArray:
        """The law's value at sizes, one argument for each variable, e.g. `(n_params, n_samples)`."""
        return self.band(*sizes).mean

    def band(
        self, *sizes: npt.ArrayLike, level: float | None = None, n_runs: npt.ArrayLike = 1
    ) -> Band:
        """The law with confidence and prediction intervals (delta method) at sizes.

        Args:
            sizes: one array for each variable.
            level: of the intervals; the fit's own by default.
            n_runs: runs whose mean the prediction interval is for.

        Raises:
            ValueError: a wrong number of arguments, or the fit has no curve.
        """
        if len(sizes) != len(self.law.variables):
            raise ValueError(f"expected {len(self.law.variables)} sizes: {self.law.variables}")
        if not self.has_curve:
            raise ValueError(f"there is no curve: {self.message}")
        grids = np.broadcast_arrays(*(np.asarray(size, dtype=float) for size in sizes))
        logs = [np.log(g).ravel() - o for g, o in zip(grids, self.origin, strict=True)]
        mean = self.law.evaluate(logs, self.theta[None])[0]
        slope = self.law.jacobian(logs, self.theta)
        scale = mean if self.residual == "log" else np.ones_like(mean)
        slope = slope / scale[:, None]
        runs = np.broadcast_to(np.asarray(n_runs, dtype=float), grids[0].shape).ravel()
        widths = self._widths(slope, runs, 0.5 + (level or self.level) / 2)
        ends = [self._end(mean, sign * width) for width in widths for sign in (-1.0, 1.0)]
        outside = np.zeros(mean.shape, dtype=bool)
        for variable, grid in zip(self.law.variables, grids, strict=True):
            low, high = self.spans[variable]
            outside |= (grid.ravel() < low * (1 - 1e-9)) | (grid.ravel() > high * (1 + 1e-9))
        shape = grids[0].shape
        return Band(*(array.reshape(shape) for array in (mean, *ends, outside)))

    def _widths(
        self, slope: FloatArray, runs: FloatArray, one: float
    ) -> tuple[FloatArray, FloatArray]:
        """Half widths of the law's and of a prediction's interval, for slopes (n, p) by theta."""
        if not self.noise.dof:
            return np.full(len(slope), np.nan), np.full(len(slope), np.nan)
        variance, dof = combined(self.parts, slope)
        noise = self.noise
        own = (noise.sd**2 + noise.run_sd**2) / runs + noise.shared_sd**2
        both = variance + own
        with np.errstate(divide="ignore", invalid="ignore"):
            dof_both = both**2 / (variance**2 / dof + own**2 / noise.dof)
        dof_both = np.where(both > 0, dof_both, noise.dof)
        law = np.sqrt(variance) * special.stdtrit(dof, one)
        return np.asarray(law), np.asarray(np.sqrt(both) * special.stdtrit(dof_both, one))

    def _end(self, mean: FloatArray, width: FloatArray) -> FloatArray:
        """An interval's end, kept within the metric's limit."""
        end = mean * np.exp(width) if self.residual == "log" else mean + width
        return (
            np.minimum(end, self.law.bound) if self.law.rising else np.maximum(end, self.law.bound)
        )

    def sources(self, name: str) -> dict[str, float]:
        """Shares of a parameter's variance by source: seeds, residuals, runs, a size, the test part.

        Empty without a standard error, and for amplitudes, whose error is that of an exponent.
        """
        if name in (*self.fixed, *self.law.amplitudes) or not self.noise.dof:
            return {}
        i = self.law.names.index(name)
        found = {part.source: float(part.covariance[i, i]) for part in self.parts}
        if name == "E" and self.noise.test_sd:
            found["test part"] = self.noise.test_sd**2
        total = sum(found.values())
        return {source: value / total for source, value in found.items()} if total > 0 else {}

    def noise_text(self) -> str:
        """The noise by its sources, and which of them E's error comes from."""
        noise = self.noise
        told = [f"{noise.sd:.3g} of a run by itself (from {noise.source}, {noise.dof} dof)"]
        if noise.run_sd:
            told.append(f"{noise.run_sd:.3g} shared by the cells of a run")
        if noise.shared_sd:
            told.append(f"{noise.shared_sd:.3g} shared by cells of equal size")
        if noise.test_sd:
            told.append(f"{noise.test_sd:.3g} of the test part, shared by all")
        text = "noise sd   " + ", ".join(told)
        shares = self.sources("E")
        if len(shares) > 1:
            by_share = sorted(shares.items(), key=lambda item: -item[1])
            text += "; E's variance: " + ", ".join(f"{s} {v:.0%}" for s, v in by_share)
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
            lines += [f"  {name:<10} {self.estimate(name)}" for name in self.law.names]
            kind = f"huber {self.delta:g}" if self.delta is not None else "gaussian"
            lines.append(
                f"  {self.n_points} runs in {self.n_cells} cells, {self.n_free} parameters, "
                f"{kind} loss of {self.residual} residuals: {self.objective:.6g}"
            )
            lines.append(f"  {self.noise_text()}")
            lines.append(
                f"  R2 {self.r_squared:.4f}, condition {self.condition:.0f}"
                f", {self.level:.0%} intervals: {self.interval_method}"
            )
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def to_document(self) -> dict[str, Any]:
        """The fit as plain JSON values; NaN and infinity become null."""
        head = {
            "law": {"name": self.law.name, "rising": self.law.rising, "limit": self.law.limit},
            "equation": self.law.equation,
        }
        document = {
            name: value
            for name, value in self.__dict__.items()
            if name not in ("law", "cells", "intervals", "noise", "theta", "parts")
        }
        document |= {
            "intervals": {name: asdict(interval) for name, interval in self.intervals.items()},
            "noise": asdict(self.noise),
            "cells": self.cells.to_dict(orient="list"),
            "theta": self.theta.tolist(),
            "parts": [{**vars(p), "covariance": p.covariance.tolist()} for p in self.parts],
        }
        cleaned: dict[str, Any] = _clean(head | document)
        return cleaned

    def to_json(self) -> str:
        """The fit as one JSON document."""
        return json.dumps(self.to_document(), indent=2, allow_nan=False)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "LawFit":
        """Rebuild a fit from `to_document`."""
        fields = {k: v for k, v in document.items() if k != "equation"}
        law = fields["law"]
        fields["law"] = build_law(law["name"], rising=law["rising"], limit=law["limit"])
        for name in ("params", "stderr", "fixed"):
            fields[name] = {k: _number(v) for k, v in fields[name].items()}
        for name in ("objective", "r_squared", "aicc", "condition"):
            fields[name] = _number(fields[name])
        fields["intervals"] = {
            name: Interval(**{**ends, **_open_ends(ends)})
            for name, ends in fields["intervals"].items()
        }
        fields["noise"] = Noise(**{k: _number(v) for k, v in fields["noise"].items()})
        fields["cells"] = pd.DataFrame(fields["cells"]).astype(float)
        fields["theta"] = np.array(fields["theta"], dtype=float)
        fields["parts"] = tuple(_part(part) for part in fields["parts"])
        fields["spans"] = {k: tuple(v) for k, v in fields["spans"].items()}
        for name in ("notes", "at_bound", "unidentified", "origin"):
            fields[name] = tuple(fields[name])
        return cls(**fields)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value:.4g}" for name, value in self.params.items())
        return f"LawFit({self.y}, {self.law.name}, {self.status}: {values})"

    def _repr_html_(self) -> str:
        text = self.summary().replace("&", "&amp;").replace("<", "&lt;")
        return f"<pre>{text}</pre>"


def _number(value: Any) -> Any:
    return float("nan") if value is None else value


def _part(document: Mapping[str, Any]) -> Part:
    covariance = np.array(document["covariance"], dtype=float)
    return Part(document["source"], covariance, document["dof"])


def _open_ends(ends: Mapping[str, Any]) -> dict[str, Any]:
    """Infinite ends, which JSON holds as null."""
    infinite = {"lower": -math.inf, "upper": math.inf}
    return {name: value for name, value in infinite.items() if ends[name] is None}


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_clean(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
