"""The report's list of all cells: one row each, to sort and to filter."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.report.page import (
    Block,
    Details,
    Paragraph,
    Section,
    Table,
    Value,
    decimals_of,
    to_decimals,
)
from analysis.report.sections.training_runs import variant_column
from analysis.study_results import StudyFits

__all__ = ["cells_section"]


# Column of the table -> heading, and how the runs of a cell are put together.
_COSTS = {
    "flops": ("FLOPs per run", "median"),
    "train_seconds": ("hours, all runs", "sum"),
    "peak_memory_gib": ("peak GiB", "max"),
}
_HOUR = 3600.0


def cells_section(studies: Sequence[StudyFits]) -> Section:
    """Every cell with the mean of each metric over its seeds, the law's value, the residual and the cost."""
    several = len(studies) > 1
    heading, entries = variant_column([study.label for study in studies])
    tables: list[Block] = []
    for metric in dict.fromkeys(name for study in studies for name in study.metrics):
        rows: list[list[object]] = []
        header: list[str] = []
        for study in studies:
            if metric in study.metrics:
                header, own = _rows(study, metric)
                rows += [[entries[study.label], *row] if several else row for row in own]
        caption = f"All cells of {metric}."
        table = Table([*([heading] if several else []), *header], rows, caption, sortable=True)
        tables.append(Details(f"All cells of {metric}", [table]) if several else table)
    note = (
        "mean: over the seeds; ±: its standard error, from the seeds of all cells together; law: the value of the law there; "
        "off: mean minus law in units of ±."
    )
    return Section("All cells", [*tables, Paragraph(note, "note")])


def _rows(study: StudyFits, metric: str) -> tuple[list[str], list[list[object]]]:
    x, data = study.size.column, study.data.column
    fit = study.metrics[metric].joint
    means, sizes = study.cells.metrics[metric], study.cells.sizes
    errors = means["mean_stderr"].to_numpy()
    axes = [sizes[c].to_numpy(dtype=float) for c in dict.fromkeys([x, data])]
    law = fit.predict(*axes) if fit.has_curve else np.full(len(sizes), np.nan)
    digits = decimals_of(errors)
    costs = _costs(study)
    names = [] if study.grade == x else ["grade"]
    header = [*names, *(["N", "D"] if study.has_both else [x]), "seeds", "mean", "±", "law", "off"]
    header += [heading for heading, _ in (_COSTS[c] for c in costs.columns)]
    rows: list[list[object]] = []
    for i in range(len(sizes)):
        off = (means["mean"].iloc[i] - law[i]) / errors[i] if errors[i] > 0 else np.nan
        rows.append(
            [
                *([str(sizes[study.grade].iloc[i])] if names else []),
                *(float(axis[i]) for axis in axes),
                int(study.cells.n_seeds.iloc[i]),
                _rounded(means["mean"].iloc[i], digits),
                _rounded(errors[i], digits + 1),
                _rounded(law[i], digits),
                _rounded(off, 1),
                *(_cost(costs[c].iloc[i], c) for c in costs.columns),
            ]
        )
    return header, rows


def _costs(study: StudyFits) -> pd.DataFrame:
    """The costs of each cell that the table has, in the order of the cells."""
    known = {c: how for c, (_, how) in _COSTS.items() if c in study.table.columns}
    known = {c: how for c, how in known.items() if c not in (study.size.column, study.data.column)}
    keys = list(dict.fromkeys([study.grade, study.size.column, study.data.column]))
    if not known:
        return pd.DataFrame(index=study.cells.sizes.index)
    costs = study.table.groupby(keys, as_index=False).agg(known)
    return study.cells.sizes[keys].merge(costs, on=keys, how="left")[list(known)]


def _rounded(value: float, decimals: int) -> Value:
    return Value(value, to_decimals(value, decimals))


def _cost(value: float, column: str) -> Value:
    if not np.isfinite(value):
        return Value(value, "–")
    shown = value / _HOUR if column == "train_seconds" else value
    return Value(shown, f"{shown:.3g}")
