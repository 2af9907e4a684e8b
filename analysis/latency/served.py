"""Accuracy against latency: served models, the Pareto front, and the best model under a latency budget."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.table import LABELS, first_few, plain_columns, require_columns, rises
from scaling.errors import UserError
from scaling.records import varied_settings
from scaling.serving import (
    ENOUGH_REQUESTS,
    Latency,
    ServingReport,
    model_columns,
    model_family,
    model_names,
    read_serving,
)

__all__ = [
    "Served",
    "best_of_each",
    "best_under",
    "measured_counts",
    "pareto_front",
    "served_models",
]


# A model's latency is that of its best way of serving: the first of these that was measured.
_BEST_WAYS = ("parallel", "repeated")


@dataclass(frozen=True)
class Served:
    """The models of a study whose latency was measured, all of one data size.

    Attributes:
        models: one row per model, fastest first, with the columns model (its name), family, grade, n_samples,
            n_seeds, the metric and its standard error `stderr` over the seeds, p50_ms, p99_ms, n_requests.
        metric: the metric's column.
        n_candidates: candidates per request.
        notes: remarks and warnings for the reader, one sentence each.
    """

    models: pd.DataFrame
    metric: str
    n_candidates: int
    notes: tuple[str, ...]


def measured_counts(table: pd.DataFrame, folder: Path) -> list[int]:
    """Return the numbers of candidates for which at least one run was measured; empty if none was.

    Raises:
        UserError: a measurement is damaged.
    """
    reports = _read_reports(table, folder).values()
    return sorted({one.n_candidates for report in reports for one in report.latencies})


def served_models(
    table: pd.DataFrame, folder: Path, metric: str, *, n_candidates: int = 100
) -> Served:
    """Return the metric and the latency of each model at the largest data size.

    Runs are seeds of one model if they differ in no other column of the table. The metric is averaged over all
    seeds of that data size. The latency does not depend on the training data, so it is the median over the
    model's measured runs of any data size.

    Args:
        table: one row per run of a study, with its signature.
        folder: the study's folder; `scaling serve-bench` wrote the latencies to its runs' folders.
        metric: the metric's column.
        n_candidates: candidates per request.

    Raises:
        UserError: the metric does not exist, no run was measured at all or with this number of candidates, or
            runs were measured with different numbers of threads.
    """
    require_columns(table, ["n_samples", metric])
    reports = _read_reports(table, folder)
    if not reports:
        raise UserError(
            f"{folder}: no latency was measured; measure with `scaling serve-bench {folder}`"
        )
    latencies = {name: _latency(report, n_candidates) for name, report in reports.items()}
    found = {name: latency for name, latency in latencies.items() if latency is not None}
    if not found:
        known = sorted({one.n_candidates for r in reports.values() for one in r.latencies})
        raise UserError(
            f"{folder}: no latency for {n_candidates} candidates; measured: {', '.join(map(str, known))}"
        )
    _check_threads(folder, {name: reports[name] for name in found})
    keys = model_columns(plain_columns(table))
    runs = _runs(table, keys, reports, found)
    usable = runs["is_measured"] & np.isfinite(runs[metric])
    if not usable.any():
        raise UserError(f"{folder}: no measured model has a {metric}")
    n_samples = runs.loc[usable, "n_samples"].max()
    shown = runs[usable & (runs["n_samples"] == n_samples)]
    shown = shown.assign(model=_names(shown, keys))
    _check_seeds(shown)
    models = _models(shown, metric)
    notes = (
        *_left_out(runs, shown, n_samples),
        *_few_requests(models),
        *_environments([reports[name].environment for name in found]),
    )
    return Served(models, metric, n_candidates, notes)


def pareto_front(models: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the models that no other model beats in both latency and metric, fastest first."""
    ordered = models.sort_values(["p99_ms", metric], ascending=[True, not rises(metric)])
    gain = ordered[metric] if rises(metric) else -ordered[metric]
    before = gain.cummax().shift(fill_value=-np.inf)
    return ordered[gain > before].reset_index(drop=True)


def best_under(models: pd.DataFrame, metric: str, budget_ms: float) -> str:
    """Return a sentence that names the best model within a latency budget."""
    within = models[models["p99_ms"] <= budget_ms]
    if within.empty:
        return f"no model stays under {budget_ms:g} ms at p99"
    best = within.sort_values(metric, ascending=not rises(metric)).iloc[0]
    return (
        f"the best model under {budget_ms:g} ms is {best['model']}: "
        f"{LABELS.get(metric, metric)} {best[metric]:.4f}, p99 {best['p99_ms']:.2g} ms"
    )


def best_of_each(models: pd.DataFrame, metric: str, budget_ms: float) -> pd.DataFrame:
    """Return the best model of each family within a latency budget, the best first."""
    within = models[models["p99_ms"] <= budget_ms]
    ordered = within.sort_values(metric, ascending=not rises(metric))
    return ordered.drop_duplicates("family").reset_index(drop=True)


def _read_reports(table: pd.DataFrame, folder: Path) -> dict[str, ServingReport]:
    reports = {str(name): read_serving(folder / str(name)) for name in table["signature"]}
    return {name: report for name, report in reports.items() if report is not None}


def _latency(report: ServingReport, n_candidates: int) -> Latency | None:
    found = {one.way: one for one in report.latencies if one.n_candidates == n_candidates}
    return next((found[way] for way in _BEST_WAYS if way in found), None)


def _check_threads(folder: Path, reports: Mapping[str, ServingReport]) -> None:
    """Refuse latencies of different numbers of threads: their differences are not due to the models."""
    threads = pd.Series({name: report.n_threads for name, report in reports.items()})
    counts = threads.value_counts()
    if len(counts) < 2:
        return
    n_others = int(counts.iloc[1:].sum())
    most, other = int(counts.index[0]), int(counts.index[1])
    first, second = (threads.index[threads == n][0] for n in (most, other))
    raise UserError(
        f"{folder}: run {first} was measured with {most} thread{'s' * (most > 1)} and run {second} with {other}, "
        "so their latencies cannot be compared; measure again: "
        f"`scaling serve-bench {folder / second} --threads {most}`"
        + (f", and {n_others - 1} more" if n_others > 1 else "")
    )


def _names(runs: pd.DataFrame, keys: list[str]) -> list[str]:
    return model_names(plain_columns(runs), runs["kind"].tolist(), keys)


def _runs(
    table: pd.DataFrame,
    keys: list[str],
    reports: Mapping[str, ServingReport],
    found: Mapping[str, Latency],
) -> pd.DataFrame:
    """Add to each run the number, name and family of its model, and the model's latency if it was measured."""
    signatures = table["signature"].astype(str)
    keys_of_any_size = _keys_of_any_size(table)
    kinds = {name: str(report.model["kind"]) for name, report in reports.items()}
    runs = table.assign(
        number=table.groupby(keys, dropna=False, sort=False).ngroup(),
        number_of_any_size=table.groupby(keys_of_any_size, dropna=False, sort=False).ngroup(),
        kind=pd.Series([kinds.get(name) for name in signatures], table.index, dtype=object),
        **{
            column: [getattr(found.get(name), column, np.nan) for name in signatures]
            for column in ("p50_ms", "p99_ms", "n_requests")
        },
    )
    by_model = runs.groupby("number")
    runs["kind"] = by_model["kind"].transform("first").fillna("suan")
    runs["n_requests"] = by_model["n_requests"].transform("min")
    for column in ("p50_ms", "p99_ms"):
        runs[column] = by_model[column].transform("median")
    return runs.assign(
        model=_names(runs, keys),
        family=[model_family(row, row["kind"]) for row in runs.to_dict("records")],
        is_measured=runs["p99_ms"].notna(),
    )


def _keys_of_any_size(table: pd.DataFrame) -> list[str]:
    """Columns that identify a model whatever its data size.

    The number of impressions replaces `teacher_data`, which is "same" at one size and a number at another.
    """
    varied = varied_settings(plain_columns(table), "teacher_grade")
    keys = ["grade", *varied, "n_params", "max_len", "teacher_n_samples"]
    if "teacher_n_samples" in table.columns:
        keys = [name for name in keys if name != "teacher_data"]
    return [name for name in keys if name in table.columns]


def _models(shown: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per model, over its seeds."""
    same = ("model", "family", "grade", "n_samples", "p50_ms", "p99_ms", "n_requests")
    summary = shown.groupby("number", sort=False).agg(
        **{column: (column, "first") for column in same},
        n_seeds=(metric, "size"),
        **{metric: (metric, "mean"), "stderr": (metric, "sem")},
    )
    return pd.DataFrame(summary.sort_values("p99_ms", ignore_index=True))


def _check_seeds(shown: pd.DataFrame) -> None:
    twice = (
        shown[shown.duplicated(["number", "seed"], keep=False)]
        if "seed" in shown.columns
        else shown[:0]
    )
    if len(twice):
        run = twice.iloc[0]
        raise UserError(
            f"{run['model']} D={int(run['n_samples'])} occurs twice with seed {run['seed']} (runs "
            f"{' and '.join(twice['signature'].astype(str)[twice['number'] == run['number']][:2])}): no column of "
            "the table distinguishes them; select one by a condition COLUMN=VALUE"
        )


def _left_out(runs: pd.DataFrame, shown: pd.DataFrame, n_samples: Any) -> list[str]:
    is_shown = runs["number"].isin(shown["number"]) | runs["number_of_any_size"].isin(
        shown["number_of_any_size"]
    )
    absent = runs[~is_shown]
    notes = []
    for part, why in (
        (absent[~absent["is_measured"]], "not measured"),
        (absent[absent["is_measured"]], f"not trained on {int(n_samples):,} samples"),
    ):
        if len(part):
            notes.append(f"left out, {why}: {first_few(dict.fromkeys(part['model']), 4)}")
    return notes


def _few_requests(models: pd.DataFrame) -> list[str]:
    few = models[models["n_requests"] < ENOUGH_REQUESTS]
    if few.empty:
        return []
    return [
        f"the p99 of {len(few)} of {len(models)} models comes from fewer than {ENOUGH_REQUESTS} requests (minimum "
        f"{int(few['n_requests'].min())}), so it is close to the slowest request; measure for more seconds "
        "before choosing by it"
    ]


def _environments(environments: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a warning if the latencies come from different machines or versions."""
    described = dict.fromkeys(
        ", ".join(str(e[name]) for name in ("device", "platform", "processor") if e.get(name))
        + f", torch {(e.get('versions') or {}).get('torch')}"
        for e in environments
    )
    if len(described) < 2:
        return []
    first, second = list(described)[:2]
    return [
        f"latencies come from {len(described)} machines or versions ({first}; {second}) and are hardly "
        "comparable; measure all on one machine"
    ]
