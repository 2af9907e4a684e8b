"""From a table to the points that a law is fitted to: sizes, response, weights and cells.

A cell is one combination of sizes; its rows are seeds. Nothing here depends on the form of the law.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.optimum.shared_runs import SharedRuns, shared_runs
from analysis.table import first_few, header_of, place_of, require_columns, source_of
from scaling.arrays import FloatArray
from scaling.errors import UserError

__all__ = ["Points", "gather_points"]


Residual = Literal["raw", "log"]

# Within these, the unit of the metric does not matter; beyond, the curvature of E is lost to rounding.
_SCALE = (1e-10, 1e15)
# Squares of standard errors must neither overflow nor vanish.
_ERRORS = (1e-60, 1e60)
# Rows without a measurement that a remark names.
_SHOWN = 5


@dataclass(frozen=True)
class Points:
    """The points that a law is fitted to.

    Attributes:
        sizes: one (n,) array for each variable of the law.
        response: (n,) metric, or its logarithm if residuals are taken in logs.
        weights: (n,) relative precisions; the mean of S seeds has weight S.
        cell: (n,) index of the cell.
        counts: (n,) number of rows behind each point.
        residual: "raw" or "log".
        pure_error: weighted sum of squares of the rows around their cells' means.
        pure_error_dof: rows minus cells.
        left_out: remarks on rows that were left out or look wrong, one line each.
        centred: whether the fit measures each log size from its mean; None means all.
        runs: for cells' means, the runs that serve several cells; None if there are none.
        run: (n,) index of each row's run; None if the table does not name runs.
        test_sd: sampling error of the test part, shared by every cell; None if it is not known.
        nested: index of the variable whose sizes are nested sets of the same impressions for every run (`data_order`
            recent); None if there is none.
    """

    sizes: tuple[FloatArray, ...]
    response: FloatArray
    weights: FloatArray
    cell: npt.NDArray[np.int_]
    counts: npt.NDArray[np.int_]
    residual: Residual
    pure_error: float
    pure_error_dof: int
    left_out: tuple[str, ...] = ()
    centred: tuple[bool, ...] | None = None
    runs: SharedRuns | None = None
    run: npt.NDArray[np.int_] | None = None
    test_sd: float | None = None
    nested: int | None = None

    def __len__(self) -> int:
        return len(self.response)

    @property
    def metric(self) -> FloatArray:
        """The response on the metric's own scale."""
        return np.exp(self.response) if self.residual == "log" else self.response

    @property
    def n_rows(self) -> int:
        """Rows behind the points."""
        return int(self.counts.sum())

    @property
    def n_cells(self) -> int:
        """Number of distinct combinations of sizes."""
        return int(self.cell.max()) + 1 if len(self.cell) else 0

    @property
    def levels(self) -> tuple[int, ...]:
        """Number of distinct values of each variable."""
        return tuple(len(np.unique(size)) for size in self.sizes)

    @property
    def origin(self) -> tuple[float, ...]:
        """The origin of the log sizes: their means; 0 for a size that is not centred."""
        centred = self.centred or (True,) * len(self.sizes)
        return tuple(
            float(np.log(size).mean()) if wanted else 0.0
            for size, wanted in zip(self.sizes, centred, strict=True)
        )

    def logs(self, origin: Sequence[float]) -> list[FloatArray]:
        """Log sizes measured from `origin`."""
        return [np.log(size) - o for size, o in zip(self.sizes, origin, strict=True)]

    def means(self) -> "Points":
        """One point for each cell: the weighted mean of its rows."""
        weight = np.bincount(self.cell, self.weights).astype(float)
        mean = np.bincount(self.cell, self.weights * self.response) / weight
        first = np.unique(self.cell, return_index=True)[1]
        spread = self.weights * (self.response - mean[self.cell]) ** 2
        counts = np.bincount(self.cell, self.counts).astype(int)
        return Points(
            sizes=tuple(size[first] for size in self.sizes),
            response=mean,
            weights=weight,
            cell=np.arange(len(first)),
            counts=counts,
            residual=self.residual,
            pure_error=float(spread.sum()),
            pure_error_dof=self.n_rows - len(first),
            left_out=self.left_out,
            centred=self.centred,
            runs=None
            if self.run is None
            else shared_runs(self.cell, self.run, self.weights, self.response),
            test_sd=self.test_sd,
            nested=self.nested,
        )


def gather_points(
    table: pd.DataFrame,
    variables: Sequence[str],
    y: str,
    *,
    residual: Residual = "raw",
    stderr: str | None = None,
    test_error: str | None = None,
    trajectory: str | None = None,
) -> Points:
    """Take one point for each usable row.

    Args:
        table: one row per run.
        variables: columns of the law's variables, in its order.
        y: column of the metric.
        residual: "log" takes the logarithm of the metric.
        stderr: column of standard errors to weigh the rows by, or None.
        test_error: column of the test part's sampling error, which every row shares, or None.
        trajectory: column that names the run of each row, or None.

    Raises:
        UserError: a column is missing or not numeric, a size is not positive, or the logarithm of a
            metric is needed that is not positive.
    """
    if stderr and stderr not in table.columns:
        raise UserError(
            f"{header_of(table)}: no column {stderr}, by which weights = stderr weighs the rows; leave it out, or add the column"
        )
    optional = [column for column in (stderr, test_error) if column]
    require_columns(table, [*variables, y, *optional])
    frame = table[[*variables, y]].astype(float)
    for column in variables:
        bad = ~(frame[column] > 0) | np.isinf(frame[column])
        if bad.any():
            row = frame.index[bad][0]
            raise UserError(
                f"{source_of(table)}: {column} is {frame[column][row]:g} in {place_of(table, row)}, expected a positive size"
            )
    usable = np.isfinite(frame[y]).to_numpy()
    left_out = _left_out(table, frame[y][~usable])
    frame = frame[usable]
    size = frame[y].abs()
    if len(frame) and size.max() > 0 and not _SCALE[0] <= size.max() <= _SCALE[1]:
        row = size.idxmax()
        raise UserError(
            f"{source_of(table)}: {y} is {frame[y][row]:g} in {place_of(table, row)}, expected the largest between "
            f"{_SCALE[0]:g} and {_SCALE[1]:g}; change its unit"
        )
    if residual == "log" and (frame[y] <= 0).any():
        row = frame.index[frame[y] <= 0][0]
        raise UserError(
            f"{source_of(table)}: {y} is {frame[y][row]:g} in {place_of(table, row)}, expected positive for logs"
        )
    metric = frame[y].to_numpy()
    sizes = tuple(frame[column].to_numpy() for column in variables)
    _, cell = np.unique(np.column_stack(sizes), axis=0, return_inverse=True)
    weights = np.ones(len(frame))
    if stderr:
        errors = table.loc[usable, stderr].to_numpy(dtype=float)
        low, high = _ERRORS
        if not ((errors >= low) & (errors <= high)).all():
            raise UserError(
                f"{source_of(table)}: {stderr} must be positive and finite in every row to weigh by it"
            )
        if residual == "log":
            errors = errors / metric
        weights = 1 / errors**2
        weights /= weights.mean()
    return Points(
        sizes=sizes,
        response=np.log(metric) if residual == "log" else metric,
        weights=weights,
        cell=cell.ravel(),
        counts=np.ones(len(frame), dtype=int),
        residual=residual,
        pure_error=0.0,
        pure_error_dof=0,
        left_out=left_out,
        run=_run_codes(table.loc[usable, trajectory]) if trajectory else None,
        test_sd=_test_sd(table.loc[usable, test_error], metric, residual) if test_error else None,
    )


def _left_out(table: pd.DataFrame, values: "pd.Series[float]") -> tuple[str, ...]:
    """One remark for each value (nan, inf, -inf) that is no measurement, with the places of its first rows."""
    return tuple(
        f"{first_few((place_of(table, row) for row in rows.index), _SHOWN)}: {values.name} is {value}"
        for value, rows in values.groupby(values.map("{:g}".format), sort=False)
    )


def _run_codes(trajectory: "pd.Series[Any]") -> npt.NDArray[np.int_]:
    """Index of each row's run; a row without a name is a run of its own."""
    code = pd.factorize(trajectory)[0].astype(int)
    alone = code < 0
    code[alone] = len(code) + np.arange(int(alone.sum()))
    return np.asarray(np.unique(code, return_inverse=True)[1])


def _test_sd(errors: "pd.Series[float]", metric: FloatArray, residual: Residual) -> float | None:
    """Root mean square of the known errors, on the scale of the residuals."""
    scaled = errors.to_numpy(dtype=float) / (metric if residual == "log" else 1.0)
    known = scaled[np.isfinite(scaled) & (scaled >= 0)]
    return float(np.sqrt((known**2).mean())) if len(known) else None
