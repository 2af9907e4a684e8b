"""Sections of the report on small models that shall serve: who taught them, and accuracy against latency."""

from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.latency import Served, pareto_front
from analysis.plots import Picture
from analysis.report.html_page import figure, paragraph, section
from analysis.report.html_page import table as html_table
from analysis.table import telling_columns, value_text, variant_columns
from scaling.study import NO_TEACHER

__all__ = ["served", "teachers"]


def teachers(table: pd.DataFrame, metrics: Sequence[str]) -> str:
    """Who taught the distilled runs, and what data each teacher had seen; empty without any."""
    sizes = ["n_params", "n_samples", "teacher_n_params", "teacher_n_samples"]
    needed = {"grade", "distill", "teacher_grade", "teacher_n_new_samples", *sizes}
    if not needed <= set(table.columns):  # a foreign table may mean anything by `distill`
        return ""
    full = table[["distill", "teacher_n_samples", "teacher_n_new_samples"]].notna().all(axis=1)
    taught = table[full & (table["distill"] != NO_TEACHER)].sort_values(sizes, kind="stable")
    if taught.empty:
        return ""
    known = {"grade": "student", "n_samples": "D", "teacher_grade": "teacher", "distill": "how"}
    keys = [*known, "teacher_n_samples"]
    apart = telling_columns(taught, [*keys, *variant_columns(taught)])
    others = [c for c in apart if c not in keys and c != "teacher_data"]
    metrics = [m for m in metrics if f"teacher_{m}" in table.columns]
    rows = []
    for _, part in taught.groupby([*keys, *others], sort=False, dropna=False):
        first = part.iloc[0]
        means = [f"{part[c].mean():.5f}" for m in metrics for c in (f"teacher_{m}", m)]
        before, unseen = part["teacher_n_samples"].iloc[0], part["teacher_n_new_samples"].mean()
        told = [f"{int(n):,}" if n else "none" for n in (before, round(unseen))]
        own = [
            str(first["grade"]),
            f"{int(first['n_samples']):,}",
            *first[["teacher_grade", "distill"]],
        ]
        rows.append([*own, *told, *(value_text(first[c]) for c in others), f"{len(part)}", *means])
    header = [*known.values(), "seen before", "unseen by student", *others, "runs"]
    header += [f"{whose} {m}" for m in metrics for whose in ("teacher's", "student's")]
    return section(
        "Teachers",
        [
            html_table(header, rows),
            paragraph(
                "cold: from scratch beside the student; warm: trained before and going on; frozen: "
                "trained before and left so. Seen before: impressions that the teacher was trained on "
                "before the run, and how many of those the student does not see (a mean over the runs). "
                "Compare a student of a teacher that has seen more also with a plain model of as many.",
                "note",
            ),
        ],
    )


def served(served: Sequence[Served], figures: Mapping[str, Picture]) -> str:
    """Accuracy against latency; empty where nothing was measured."""
    parts = []
    for one in served:
        picture = figures[f"{one.metric}-latency"]
        front = set(pareto_front(one.models, one.metric)["model"])
        rows = [
            [
                str(model["model"]),
                f"{model['p50_ms']:.2f}",
                f"{model['p99_ms']:.2f}",
                f"{model[one.metric]:.4f}",
                f"{model['n_seeds']}",
                "yes" if model["model"] in front else "",
            ]
            for model in one.models.to_dict("records")
        ]
        parts += [
            figure(picture.png, picture.caption),
            html_table(["model", "p50 ms", "p99 ms", one.metric, "seeds", "Pareto front"], rows),
        ]
    return section("What can be served", parts)
