"""The report's section on what was run: grades, data sizes, costs, missing runs, and warnings."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.report.page import Paragraph, Section, Table, number
from analysis.study_results import StudyFits, grade_label
from analysis.table import size_label

__all__ = ["absent_text", "overview_section"]


_GRADE_COLUMNS = {
    "n_layers": "layers",
    "n_heads": "heads",
    "d": "d",
    "max_len": "behaviours L",
    "n_params": "parameters",
    "n_embedding_params": "embedding",
    "flops_per_sample": "FLOPs/sample",
    "samples_per_second": "samples/s",
    "peak_memory_gib": "peak GiB",
}
_HOURS = {"train_seconds": "hours in all"}
# They vary from run to run, and are put together like this; the other columns are the same in all runs of a grade.
_MEASURED = {"samples_per_second": "median", "peak_memory_gib": "median", "train_seconds": "sum"}
_HOUR = 3600.0
# Missing runs that are listed by name, for each state.
_MOST_NAMED = 12
# Data sizes that are listed one by one.
_MOST_SIZES = 12


def overview_section(
    studies: Sequence[StudyFits], planned: pd.DataFrame | None, notes: Sequence[str]
) -> Section:
    """Grades and data sizes with their cost, the planned runs that are missing, and warnings."""
    table = pd.concat([study.table for study in studies], ignore_index=True)
    x, grade = studies[0].size.column, studies[0].grade
    labels = _GRADE_COLUMNS if x in _GRADE_COLUMNS else {x: x, **_GRADE_COLUMNS}
    labels = {**labels, **{c: name for c, name in _HOURS.items() if c != x}}
    known = {c: f"{name} N" if c == x else name for c, name in labels.items() if c in table.columns}
    how = {c: _MEASURED.get(c, "first") for c in known if c != grade}
    grades = table.sort_values(x).groupby(grade, sort=False).agg(how)
    if "train_seconds" in how and x != "train_seconds":
        grades["train_seconds"] /= _HOUR
    digits = [3 if c in _MEASURED else 12 for c in how]
    rows = [
        [grade_label(name), *(number(float(v), n) for v, n in zip(row, digits, strict=True))]
        for name, *row in grades.itertuples()
    ]
    # along one size of another kind, e.g. of the data, a row for each grade says nothing
    is_of_models = studies[0].has_both or x in _GRADE_COLUMNS
    warnings = [absent_text(planned) if planned is not None else "", *notes]
    if "data_order" in table.columns and (table["data_order"] == "shared").any():
        warnings.append(
            "Grades shared one order of the training data. So the random error of each data size's subset is "
            "common to its column, and the intervals of E and beta are too narrow."
        )
    return Section(
        "What was run",
        [
            Paragraph(_facts(table, studies, len(grades))),
            *([Table([grade, *(known[c] for c in how)], rows)] if is_of_models else []),
            *(Paragraph(text, "warn") for text in warnings),
            _absent(planned),
        ],
    )


def _absent(planned: pd.DataFrame | None) -> Table:
    """The planned runs that are not done, one row each, with the reason if one is known."""
    header = ["grade", "D", "seed", "state", "reason"]
    if planned is None:
        return Table(header, [])
    absent = planned[planned["state"] != "done"]
    reasons = absent["why"] if "why" in absent else pd.Series("", index=absent.index)
    rows = [
        [str(grade), float(size), int(seed), str(state), str(reason or "")]
        for grade, size, seed, state, reason in zip(
            absent["grade"],
            absent["n_samples"],
            absent["seed"],
            absent["state"],
            reasons,
            strict=True,
        )
    ]
    return Table(header, rows, "Planned runs that are not in the fits.", sortable=True)


def _sizes_text(column: pd.Series) -> str:
    """All data sizes, or how many and their range if there are more than can be read at a glance."""
    sizes = [f"{size:,.15g}" for size in np.unique(column)]
    if len(sizes) <= _MOST_SIZES:
        return f"data sizes {', '.join(sizes)}"
    return f"{len(sizes)} data sizes from {sizes[0]} to {sizes[-1]}"


def _facts(table: pd.DataFrame, studies: Sequence[StudyFits], n_grades: int) -> str:
    data, unit = studies[0].data, studies[0].data.unit
    models = "grade" if studies[0].grade != studies[0].size.column else "model size"
    sizes = f"{n_grades} {models}{'s' * (n_grades > 1)}, "
    sizes += f"{_sizes_text(table[data.column])} {unit or data.column}."
    facts = [
        sizes
        if studies[0].has_both
        else f"{len(table[data.column].unique())} sizes of {data.column}."
    ]
    if "seed" in table.columns:
        counts = pd.concat([study.cells.n_seeds for study in studies])
        few, many = int(counts.min()), int(counts.max())
        n_seeds = f"{many}" if few == many else f"{few} to {many}"
        facts.append(f"{n_seeds} seed{'s' * (many > 1)} per cell.")
    if "train_seconds" in table.columns:
        facts.append(f"{table['train_seconds'].sum() / _HOUR:.2f} hours of training in all.")
    return " ".join(facts)


def absent_text(planned: pd.DataFrame) -> str:
    """The planned runs that are not done, by state; empty if all are done."""
    absent = planned[planned["state"] != "done"]
    if absent.empty:
        return ""
    parts = []
    for state, part in absent.groupby("state"):
        names = [
            f"{grade} D={size_label(float(size))} s{seed}"
            for grade, size, seed in part[["grade", "n_samples", "seed"]].itertuples(index=False)
        ]
        n_others = len(names) - _MOST_NAMED
        more = f" and {n_others} more" if n_others > 0 else ""
        parts.append(f"{len(names)} {state}: {', '.join(names[:_MOST_NAMED])}{more}")
    return f"Not in the fits: {len(absent)} of {len(planned)} planned runs ({'; '.join(parts)})."
