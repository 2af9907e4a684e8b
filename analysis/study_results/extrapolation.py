"""Held-out extrapolation: fit the smaller cells, predict the largest ones; whole rows and columns.

This score shows which law is better: in-sample criteria prefer the most flexible form, which then
extrapolates worst (docs/fitting.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.fit import FitOptions, LawFit, fit_law
from analysis.laws import Law
from analysis.table import require_columns
from scaling.errors import UserError

__all__ = ["CUTS", "Cut", "holdout", "largest_cells", "options_for", "score_holdout"]


Cut = Literal["data", "size", "corner", "flops"]

# What is held out -> meaning.
CUTS: dict[Cut, str] = {
    "data": "the largest data sizes",
    "size": "the largest models",
    "corner": "the largest models and the largest data sizes",
    "flops": "the runs of most training FLOPs",
}
# Share of the cells that a FLOPs cut holds out if there is only one level.
_FLOPS_SHARE = 0.2
# A law that fits the training cells about as well as the best one and predicts this much worse only fits.
_AS_WELL, _MUCH_WORSE = 1.25, 2.0
_NO_INTERVAL = FitOptions(interval="none")


def options_for(law: Law, options: FitOptions) -> FitOptions:
    """The options of a fit of one of several laws: it holds those parameters that it has."""
    held = {name: value for name, value in options.fixed.items() if name in law.names}
    return replace(options, fixed=held)


def holdout(
    laws: Sequence[Law],
    table: pd.DataFrame,
    *,
    x: str = "n_params",
    data: str = "n_samples",
    y: str = "logloss",
    cuts: Sequence[Cut] = ("data", "size", "corner"),
    every_level: bool = False,
    options: FitOptions = _NO_INTERVAL,
) -> pd.DataFrame:
    """Predict held-out cells with each law; one row per law, cut and held-out cell.

    Args:
        laws: of model size and data size, or all of one size, oriented as the metric is.
        table: one row per run.
        x: column of the model's size, or of the only size.
        data: column of the data size; laws of one size do not use it.
        y: column of the metric.
        cuts: what to hold out, see `CUTS`; "flops" cuts at the column `flops`, or at size x data; of laws of one size, only
            "size".
        every_level: hold out the largest level, then the two largest, and so on, instead of one only.
        options: of each fit; no intervals of parameters by default, as only predictions are used. A law holds those
            parameters that it has.

    Returns:
        Columns law, cut, held_out (levels), n_train (runs), fit_error (root mean square relative
        residual of the training cells), status, reach (largest held-out over largest training size, on
        the axis that is cut), the sizes under their own names (`NAME (size)` if NAME is one of these
        columns), n_seeds, measured, predicted, relative_error, lower, upper (95 % prediction interval of
        the cell's mean), inside. A law that cannot be fitted below the cut has NaN predictions and gives
        the reason in `status`.

    Raises:
        UserError: a column is missing, laws are of different sizes or of more than two, or a cut needs another size.
    """
    _check_laws(laws, cuts)
    sizes = [x] if laws and laws[0].variables == ("x",) else [x, data]
    require_columns(table, [*sizes, y])
    table = table[np.isfinite(table[y])]
    rows = []
    for cut in cuts:
        for held_out, axis, above in _splits(table, cut, sizes, every_level):
            train, test = table[~above], table[above]
            cells = _held_out_cells(test, sizes, y)
            # Without a training run there is no largest training size.
            reach = axis[above].max() / axis[~above].max() if len(train) else float("nan")
            for law in laws:
                fit = fit_law(law, train, x=x, data=data, y=y, options=options_for(law, options))
                base = {
                    "law": law.name,
                    "cut": cut,
                    "held_out": held_out,
                    "n_train": fit.n_points,
                    "fit_error": _fit_error(fit),
                    "status": fit.status,
                    "reach": reach,
                }
                rows.append(_predict(base, fit, cells))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=["law", "cut"])


def _check_laws(laws: Sequence[Law], cuts: Sequence[Cut]) -> None:
    for law in laws:
        if law.variables not in (("N", "D"), ("x",)):
            raise UserError(
                f"{law.name} law: cells are held out along one size or two, not {len(law.variables)}"
            )
        if law.variables != laws[0].variables:
            raise UserError(
                f"laws {laws[0].name} and {law.name} are of different sizes; score them one after the other"
            )
        if law.variables == ("x",) and set(cuts) != {"size"}:
            other = next(cut for cut in cuts if cut != "size")
            raise UserError(
                f"cut {other}: the {law.name} law has one size, so the only cut is size"
            )


@dataclass(frozen=True)
class _Cells:
    """Cells above a cut; arrays of one length.

    Attributes:
        sizes: of both axes, by the name of their column.
        measured: mean of the metric.
        n_seeds: runs in the cell.
    """

    sizes: dict[str, npt.NDArray[np.float64]]
    measured: npt.NDArray[np.float64]
    n_seeds: npt.NDArray[np.integer[Any]]


def _held_out_cells(test: pd.DataFrame, columns: Sequence[str], y: str) -> _Cells:
    groups = test.groupby(list(columns))[y]
    means, counts = groups.mean(), groups.size()
    sizes = {name: means.index.get_level_values(name).to_numpy() for name in columns}
    return _Cells(sizes, means.to_numpy(dtype=float), counts.to_numpy())


def _fit_error(fit: LawFit) -> float:
    if not fit.has_curve:
        return float("nan")
    relative = fit.cells["fitted"] / fit.cells["measured"] - 1
    return float(np.sqrt(np.average(relative**2, weights=fit.cells["n_rows"])))


def _splits(
    table: pd.DataFrame, cut: Cut, sizes: Sequence[str], every_level: bool
) -> list[tuple[int, "pd.Series[float]", "pd.Series[bool]"]]:
    """Number of levels held out, the axis that is cut, and the rows above the cut."""
    x, data = sizes[0], sizes[-1]
    if cut == "flops":
        if "flops" in table.columns:
            require_columns(table, ["flops"])
        axis = table["flops"] if "flops" in table.columns else table[x].astype(float) * table[data]
        # Products of the same cost differ in their last digits.
        axis = axis.map(lambda flops: float(f"{flops:.9g}"))
        levels = np.unique(axis)
        counts = (
            range(1, len(levels)) if every_level else [int(np.ceil(_FLOPS_SHARE * len(levels)))]
        )
        return [(n, axis, axis > levels[-1 - n]) for n in counts if n < len(levels)]
    axes = {"size": [x], "data": [data], "corner": [x, data]}[cut]
    levels_of = {column: np.unique(table[column]) for column in axes}
    most = min(len(levels) for levels in levels_of.values())
    splits = []
    for n in range(1, most) if every_level else range(1, min(2, most)):
        above = pd.Series(False, index=table.index)
        for column, levels in levels_of.items():
            above |= table[column] > levels[-1 - n]
        splits.append((n, table[axes[0]].astype(float), above))
    return splits


def _predict(base: dict[str, Any], fit: LawFit, cells: _Cells) -> pd.DataFrame:
    measured = cells.measured
    predicted = lower = upper = np.full(len(measured), np.nan)
    if fit.has_curve:
        band = fit.band(*cells.sizes.values(), n_runs=cells.n_seeds)
        predicted, lower, upper = band.mean, band.prediction_lower, band.prediction_upper
    inside = (measured >= lower) & (measured <= upper)
    results = {
        "n_seeds": cells.n_seeds,
        "measured": measured,
        "predicted": predicted,
        "relative_error": predicted / measured - 1,
        "lower": lower,
        "upper": upper,
        "inside": np.where(np.isfinite(lower), inside, np.nan),
    }
    taken = {*base, *results}
    sizes = {f"{n} (size)" if n in taken else n: size for n, size in cells.sizes.items()}
    return pd.DataFrame({**base, **sizes, **results})


def largest_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """The largest held-out cell of each cut, by the product of its sizes; one row per law, nearest first.

    Args:
        rows: of `holdout`.

    Returns:
        Columns cut, held_out, law, the sizes, measured, predicted, lower, upper, inside.
    """
    if rows.empty:
        return pd.DataFrame(columns=["cut", "law"])
    names = list(rows.columns)
    sizes = names[names.index("reach") + 1 : names.index("n_seeds")]
    cells = rows.assign(_size=np.log(rows[sizes].astype(float)).sum(axis=1))
    largest = cells.groupby(["cut", "held_out"], sort=False)["_size"].transform("max")
    found = cells[np.isclose(cells["_size"], largest, rtol=1e-12)]
    # of a scattered table, several cells may be equally large: take the one with the most data
    most = found.groupby(["cut", "held_out"], sort=False)[sizes[-1]].transform("max")
    found = found[found[sizes[-1]] == most]
    order = [list(rows["cut"].unique()).index(cut) for cut in found["cut"]]
    found = found.assign(_cut=order, _error=found["relative_error"].abs())
    found = found.sort_values(["_cut", "held_out", "_error"], ignore_index=True)
    shown = ["measured", "predicted", "lower", "upper", "inside"]
    return found[["cut", "held_out", "law", *sizes, *shown]]


def score_holdout(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per law and cut, best first within a cut: size and sign of the errors, coverage of the intervals.

    Returns:
        Columns cut, held_out, law, status, n_train, n_test (cells), reach, mean_absolute_error and
        mean_error (both relative), worst_error (relative, signed), inside (share of cells inside
        their prediction interval), fit_error, verdict ("best"; "only fits" for a law that fits the
        training cells about as well and predicts twice as badly; otherwise empty).
    """
    if rows.empty:
        return pd.DataFrame(columns=["cut", "law"])
    scores = []
    for (cut, held_out, law), part in rows.groupby(["cut", "held_out", "law"], sort=False):
        error = part["relative_error"].to_numpy()
        inside = part["inside"].to_numpy(dtype=float)
        finite = bool(np.isfinite(error).all())
        scores.append(
            {
                "cut": cut,
                "held_out": held_out,
                "law": law,
                "status": part["status"].iloc[0],
                "n_train": part["n_train"].iloc[0],
                "n_test": len(part),
                "reach": part["reach"].iloc[0],
                "mean_absolute_error": float(np.abs(error).mean()),
                "mean_error": float(error.mean()),
                "worst_error": float(error[np.abs(error).argmax()]) if finite else float("nan"),
                "inside": float(inside.mean()),
                "fit_error": float(part["fit_error"].iloc[0]),
            }
        )
    table = _judged(pd.DataFrame(scores))
    order = {cut: i for i, cut in enumerate(rows["cut"].unique())}
    table["order"] = table["cut"].map(order)
    table = table.sort_values(["order", "held_out", "mean_absolute_error"], ignore_index=True)
    return table.drop(columns="order")


def _judged(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores with a verdict on each law, within its cut."""
    verdict = np.full(len(scores), "", dtype=object)
    error, fitted = (scores[c].to_numpy(dtype=float) for c in ("mean_absolute_error", "fit_error"))
    for index in scores.groupby(["cut", "held_out"], sort=False).indices.values():
        rows = np.asarray(index)
        if np.isfinite(error[rows]).any():
            best = rows[np.nanargmin(error[rows])]
            as_well = fitted[rows] <= _AS_WELL * fitted[best]
            verdict[rows[as_well & (error[rows] >= _MUCH_WORSE * error[best])]] = "only fits"
            verdict[best] = "best"
    return scores.assign(verdict=verdict)
