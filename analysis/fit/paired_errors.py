"""Errors that two fits have in common: runs of the same cell and seed read the same data in the same order.

The correlation of their residuals is estimated, not assumed; from it follows the covariance of any two values of the laws.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.fit.law_fit import LawFit
from analysis.table import require_columns
from analysis.uncertainty import Part, combined
from scaling.arrays import FloatArray
from scaling.errors import UserError
from scaling.metrics import stderr_name

__all__ = ["FittedRows", "PairedErrors", "common_errors"]


# With less information than this, a correlation is noise.
_FEWEST_PAIRS = 4.0
# Residuals of Huber's loss are clipped at this many robust standard deviations.
_CLIP = 3.0

_Codes = tuple[npt.NDArray[np.integer[Any]], npt.NDArray[np.integer[Any]]]


@dataclass(frozen=True)
class FittedRows:
    """A fit with the table it was fitted to; (n, ...) arrays have one entry for each row with a finite metric.

    Attributes:
        fit: with a curve.
        table: (n) the rows.
        residual: (n,) multiplied by the root of the weights, as is `columns`.
        columns: (n, p) derivatives of the prediction by theta, 0 for held parameters.
    """

    fit: LawFit
    table: pd.DataFrame
    residual: FloatArray
    columns: FloatArray

    @classmethod
    def of(cls, fit: LawFit, table: pd.DataFrame) -> "FittedRows":
        """Take the rows of `table` that `fit` was fitted to.

        Raises:
            UserError: the fit has no curve, or the table lacks one of its columns.
        """
        if not fit.has_curve:
            raise UserError(f"there is no curve: {fit.message}")
        names = [fit.columns[variable] for variable in fit.law.variables]
        require_columns(table, [*names, fit.y])
        used = table[np.isfinite(table[fit.y].to_numpy(dtype=float))]
        metric = used[fit.y].to_numpy(dtype=float)
        logs = [
            np.log(used[name].to_numpy(dtype=float)) - o
            for name, o in zip(names, fit.origin, strict=True)
        ]
        value, slope = fit.law.evaluate(logs, fit.theta[None])[0], fit.law.jacobian(logs, fit.theta)
        residual = metric - value
        if fit.options.residual_scale == "log":
            residual, slope = np.log(metric / value), slope / value[:, None]
        slope[:, [name in fit.fixed for name in fit.law.names]] = 0.0
        root = np.ones(len(used))
        if fit.options.weights == "stderr":
            error = used[stderr_name(fit.y)].to_numpy(dtype=float)
            root = (metric if fit.options.residual_scale == "log" else 1.0) / error
        residual = residual * root
        if fit.options.loss == "huber":
            most = _CLIP * 1.4826 * float(np.median(np.abs(residual)))
            residual = np.clip(residual, -most, most)
        return cls(fit, used, residual, slope * root[:, None])

    def parts(self, size: str | None) -> tuple[Part, ...]:
        """The parts of the covariance that runs of equal `size` (a variable) share; None: all others."""
        variables = self.fit.law.variables
        return tuple(
            part
            for part in self.fit.parts
            if (part.source == size if size else part.source not in variables)
        )

    def variance(self, slope: FloatArray, size: str | None) -> FloatArray:
        """Variance (m,) along directions (m, p) of theta from `parts(size)`."""
        whole = sum((part.covariance for part in self.parts(size)), np.zeros((slope.shape[1],) * 2))
        return np.asarray(np.maximum(np.einsum("ip,pq,iq->i", slope, whole, slope), 0.0))


@dataclass(frozen=True)
class _Shared:
    """One kind of groups whose rows share an error.

    Attributes:
        size: the variable whose equal sizes share it; None for pairs of runs.
        correlation: of the residuals, in [-1, 1].
        dof: of its estimate.
        moves: G columns of theta (p, G) for each fit: what a unit error of a group's rows does to it.
    """

    size: str | None
    correlation: float
    dof: float
    moves: tuple[FloatArray, FloatArray]

    def cosine(self, one: FloatArray, other: FloatArray) -> FloatArray:
        """Cosine (m,) of how groups move values along directions (m, p) of both thetas."""
        a, b = one @ self.moves[0], other @ self.moves[1]
        length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(length > 0, np.sum(a * b, axis=1) / length, 0.0))


@dataclass(frozen=True)
class PairedErrors:
    """What two fits' errors have in common.

    Attributes:
        rows: of both fits.
        n_pairs: pairs of runs.
        shared: kinds of shared errors; empty if there are too few pairs.
    """

    rows: tuple[FittedRows, FittedRows]
    n_pairs: int
    shared: tuple[_Shared, ...]

    @property
    def correlation(self) -> float:
        """Correlation of the residuals of a pair of runs; NaN without pairs."""
        return next((one.correlation for one in self.shared if one.size is None), float("nan"))

    def covariance(self, one: FloatArray, other: FloatArray) -> FloatArray:
        """Covariances (m,) of values of the first law and values of the second.

        Args:
            one: derivatives (m, p) of the first law's values by its theta.
            other: the same of the second law.
        """
        return self._shared_moments(one, other)[0]

    def difference(self, one: FloatArray, other: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Variances of differences of two values, one of each law, and their Satterthwaite degrees of freedom, (m,).

        Args:
            one: derivatives (m, p) of the first law's values by its theta.
            other: the same of the second law.
        """
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            a, dof_a = combined(self.rows[0].fit.parts, one)
            b, dof_b = combined(self.rows[1].fit.parts, other)
            covariance, cross = self._shared_moments(one, other)
            variance = np.maximum(a + b - 2 * covariance, 0.0)
            uncertain = a**2 / dof_a + b**2 / dof_b + cross
            dof = np.where(uncertain > 0, variance**2 / uncertain, np.inf)
        # at least those of the fit that has fewer
        return variance, np.clip(np.nan_to_num(dof, nan=0.0), np.minimum(dof_a, dof_b), 1e6)

    def _shared_moments(self, one: FloatArray, other: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Covariances (m,), and what they add to the sum of variance^2 / dof in Satterthwaite's formula."""
        covariance, uncertain = np.zeros(len(one)), np.zeros(len(one))
        for shared in self.shared:
            a = self.rows[0].variance(one, shared.size)
            b = self.rows[1].variance(other, shared.size)
            cosine, r = shared.cosine(one, other), shared.correlation
            both = r * cosine * np.sqrt(a * b)
            dofs = [part.dof for rows in self.rows for part in rows.parts(shared.size)]
            # With fewer than those of the variances, the sum could become negative.
            dof = max([shared.dof, *(d for d in dofs if np.isfinite(d))])
            # The moments of a Wishart matrix: S11 and S22 are correlated by r^2, and S12 is uncertain itself.
            uncertain += (2 * (r**2 + cosine**2) * a * b + 2 * both**2 - 4 * both * (a + b)) / dof
            covariance += both
        return covariance, uncertain


def common_errors(one: FittedRows, other: FittedRows) -> PairedErrors:
    """Estimate what the errors of two fits have in common, from the residuals of pairs of runs.

    The runs of a pair have equal data, data size and seed, and an equal grade (else model size). If no grade and no
    model size is in both tables, all runs of equal data size and seed that share one order (`data_order`) are pairs.
    Shifts that both fits attribute to equal sizes of a variable are paired by that size. The method of moments
    accounts for the parameters that were fitted; runs without a seed are not paired.
    """
    sizes = [part.source for part in one.fit.parts if part.source in one.fit.law.variables]
    common = [size for size in dict.fromkeys(sizes) if other.parts(size)]
    pairs = _pair_columns(one, other)
    if not pairs:
        return PairedErrors((one, other), 0, ())
    codes = _codes(one, other, pairs)
    n_pairs = len(np.intersect1d(*codes))
    found = [_shared(one, other, None, codes)]
    found += [
        _shared(one, other, size, _codes(one, other, [one.fit.columns[size]]))
        for size in common
        if one.fit.columns[size] == other.fit.columns.get(size)
    ]
    kept = tuple(shared for shared in found if shared is not None)
    return PairedErrors((one, other), n_pairs, kept if found[0] is not None else ())


def _pair_columns(one: FittedRows, other: FittedRows) -> list[str]:
    """The columns that are equal within a pair of runs; empty if runs are not paired."""
    tables = (one.table, other.table)

    def both(name: str) -> bool:
        return all(name in table.columns and table[name].notna().all() for table in tables)

    def meet(name: str) -> bool:
        return both(name) and bool(set(tables[0][name]) & set(tables[1][name]))

    if not both("seed"):
        return []
    columns = one.fit.columns
    model, samples = columns.get("N", "n_params"), columns.get("D", "n_samples")
    data = [name for name in ("data_fingerprint", samples, "seed") if both(name)]
    last = columns.get("x", samples)
    if not both(samples) and both(last):
        data.append(last)
    place = next((name for name in ("grade", model, last) if meet(name)), None)
    if place in ("grade", model) or (place and not (both("grade") or both(model))):
        return list(dict.fromkeys([*data, place]))
    shared = both("data_order") and all((table["data_order"] == "shared").all() for table in tables)
    return data if shared else []


def _codes(one: FittedRows, other: FittedRows, names: Sequence[str]) -> _Codes:
    """The group of each row of both tables, by equal values in `names`."""
    both = pd.concat([one.table[list(names)], other.table[list(names)]], ignore_index=True)
    code = both.groupby(list(names), dropna=False).ngroup().to_numpy(dtype=int)
    return code[: len(one.table)], code[len(one.table) :]


def _shared(one: FittedRows, other: FittedRows, size: str | None, codes: _Codes) -> _Shared | None:
    """The correlation of the groups' errors by the method of moments; None if there are too few groups."""
    n_groups = int(max(code.max() for code in codes)) + 1
    sums, counts, bases, moves = [], [], [], []
    for rows, code in zip((one, other), codes, strict=True):
        grouped = np.zeros((n_groups, rows.columns.shape[1]))
        np.add.at(grouped, code, rows.columns)
        # a vanished or held parameter has no column; the pseudo-inverse leaves it out
        inverse = np.linalg.pinv(rows.columns.T @ rows.columns, hermitian=True, rcond=1e-14)
        values, vectors = np.linalg.eigh(inverse)
        sums.append(np.bincount(code, rows.residual, n_groups))
        counts.append(np.bincount(code, minlength=n_groups).astype(float))
        bases.append(grouped @ (vectors * np.sqrt(np.maximum(values, 0.0))))
        moves.append(inverse @ grouped.T)

    def moment(i: int, j: int) -> tuple[float, float]:
        # The trace of Q_i M Q_j M', with Q what a fit leaves of errors and M the pairs.
        seen = counts[i] @ counts[j] + float(np.sum((bases[i].T @ bases[j]) ** 2))
        seen -= float(counts[j] @ np.sum(bases[i] ** 2, axis=1))
        seen -= float(counts[i] @ np.sum(bases[j] ** 2, axis=1))
        return float(sums[i] @ sums[j]), seen

    (own, n_own), (theirs, n_theirs), (both, n_both) = moment(0, 0), moment(1, 1), moment(0, 1)
    scale = float(np.mean(counts[0][counts[0] > 0]) * np.mean(counts[1][counts[1] > 0]))
    dof = n_both / scale
    if dof < (_FEWEST_PAIRS if size is None else 1.0) or min(n_own, n_theirs, own, theirs) <= 0:
        return None
    correlation = (both / n_both) / np.sqrt(own / n_own * theirs / n_theirs)
    return _Shared(size, float(np.clip(correlation, -1.0, 1.0)), dof, (moves[0], moves[1]))
