"""The report's sections on small models: their teachers, and their accuracy against latency."""

from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.latency import Served, pareto_front
from analysis.plots import Picture
from analysis.report.page import Block, Figure, Paragraph, Section, Table
from analysis.table import distinguishing_columns, value_text, variant_columns
from scaling.study import NO_TEACHER

__all__ = ["served_section", "teachers_section"]


_NO_TEACHERS = Section("Teachers", [])


def teachers_section(table: pd.DataFrame, metrics: Sequence[str]) -> Section:
    """The teachers of the distilled runs and the data they had seen; empty without distilled runs."""
    sizes = ["n_params", "n_samples", "teacher_n_params", "teacher_n_samples"]
    needed = {"grade", "distill", "teacher_grade", "teacher_n_new_samples", *sizes}
    if not needed <= set(table.columns):  # in a foreign table, `distill` may mean anything
        return _NO_TEACHERS
    full = table[["distill", "teacher_n_samples", "teacher_n_new_samples"]].notna().all(axis=1)
    distilled = table[full & (table["distill"] != NO_TEACHER)].sort_values(sizes, kind="stable")
    if distilled.empty:
        return _NO_TEACHERS
    known = {"grade": "student", "n_samples": "D", "teacher_grade": "teacher", "distill": "how"}
    keys = [*known, "teacher_n_samples"]
    names = distinguishing_columns(distilled, [*keys, *variant_columns(distilled)])
    others = [c for c in names if c not in keys and c != "teacher_data"]
    metrics = [m for m in metrics if f"teacher_{m}" in table.columns]
    rows = []
    for _, part in distilled.groupby([*keys, *others], sort=False, dropna=False):
        first = part.iloc[0]
        means = [f"{part[c].mean():.5f}" for m in metrics for c in (f"teacher_{m}", m)]
        before, unseen = part["teacher_n_samples"].iloc[0], part["teacher_n_new_samples"].mean()
        seen = [f"{int(n):,}" if n else "none" for n in (before, round(unseen))]
        own = [
            str(first["grade"]),
            f"{int(first['n_samples']):,}",
            *first[["teacher_grade", "distill"]],
        ]
        rows.append([*own, *seen, *(value_text(first[c]) for c in others), f"{len(part)}", *means])
    header = [*known.values(), "seen before", "unseen by student", *others, "runs"]
    header += [f"{whose} {m}" for m in metrics for whose in ("teacher's", "student's")]
    return Section(
        "Teachers",
        [
            Table(header, rows),
            Paragraph(
                "cold: the teacher starts from scratch beside the student; warm: it was trained before "
                "and trains on; frozen: it was trained before and does not change. Seen before: "
                "impressions that the teacher was trained on before the run, and how many of them the "
                "student does not see (mean over the runs). If a teacher has seen more data than its "
                "student, also compare the student with a plain model trained on that much data.",
                "note",
            ),
        ],
    )


def served_section(served: Sequence[Served], figures: Mapping[str, Picture]) -> Section:
    """Accuracy against latency; empty if no latency was measured."""
    parts: list[Block] = []
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
            Figure(picture.svg, picture.finding, picture.caption, f"{one.metric}-latency"),
            Table(["model", "p50 ms", "p99 ms", one.metric, "seeds", "Pareto front"], rows),
        ]
    return Section("What can be served", parts)
