"""Accuracy against latency: served models, the Pareto front, and the best model under a latency budget."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from analysis.plots import LABELS, dress, new_axes
from analysis.table import rises
from scaling.errors import UserError
from scaling.serving_report import Latency, ServingReport, read_serving

__all__ = ["best_under", "measured_counts", "pareto_front", "plot_latency", "served_models"]

# Families in the order of their colours and markers, colour-blind safe (Okabe and Ito).
_LOOKS = {
    "SUAN": ("#0072b2", "o"),
    "LightSUAN": ("#d55e00", "s"),
    "distilled LightSUAN": ("#009e73", "D"),
    "distilled SUAN": ("#cc79a7", "^"),
}
_GREY = "#666666"
# What tells distilled runs apart, with what is told before the value (`analysis.table.TEACHER_COLUMNS`).
_TAUGHT = {
    "distill": "",
    "teacher_grade": "",
    "teacher_data": "data ",
    "distill_weight": "lambda ",
    "distill_temperature": "t ",
}
# A model is served as well as it can be: the first of these ways that was measured.
_SERVED = ("parallel", "repeated")


def measured_counts(table: pd.DataFrame, folder: Path) -> list[int]:
    """Return the numbers of candidates that some run's latency was measured for; empty without any.

    Raises:
        UserError: a measurement is damaged.
    """
    reports = (read_serving(folder / str(name)) for name in table["signature"])
    return sorted({one.n_candidates for r in reports if r is not None for one in r.latencies})


def served_models(
    table: pd.DataFrame, folder: Path, metric: str, *, n_candidates: int = 100
) -> pd.DataFrame:
    """Return one row per model at the largest data size, with its latency and its metric over seeds.

    Columns: model (a name for people), family, teacher, grade, window, dilation, n_samples, n_seeds, the metric, its standard error, p50_ms, p99_ms
    (medians over seeds), ordered by latency.

    Args:
        table: of a study's runs, with their signatures.
        folder: the study's; its runs' folders hold what `scaling serve-bench` measured.
        metric: column.
        n_candidates: that a request scores.

    Raises:
        UserError: no run was measured, or none with so many candidates.
    """
    reports = {str(name): read_serving(folder / str(name)) for name in table["signature"]}
    measured = {name: report for name, report in reports.items() if report is not None}
    if not measured:
        raise UserError(
            f"{folder}: no run's latency was measured; `scaling serve-bench {folder}` does"
        )
    found = {name: _latency(report, n_candidates) for name, report in measured.items()}
    if not any(found.values()):
        known = sorted({one.n_candidates for r in measured.values() for one in r.latencies})
        raise UserError(
            f"{folder}: no latency for {n_candidates} candidates; measured were "
            f"{', '.join(map(str, known))}"
        )
    rows = []
    distilled = table[table["distill"] != "none"] if "distill" in table.columns else table[:0]
    taught = [c for c in _TAUGHT if c in table.columns and len(distilled[c].unique()) > 1]
    for run in table.to_dict("records"):
        latency = found.get(str(run["signature"]))
        if latency is not None and pd.notna(run[metric]):
            model = measured[str(run["signature"])].model
            light = model["kind"] == "lightsuan"
            rows.append(
                {
                    "family": _family(run, light),
                    "teacher": _teacher(run, taught),
                    "grade": run["grade"],
                    "window": model["window"] if light else 0,
                    "dilation": model["dilation"] if light else 0,
                    "n_samples": run["n_samples"],
                    "p50_ms": latency.p50_ms,
                    "p99_ms": latency.p99_ms,
                    metric: run[metric],
                }
            )
    models = pd.DataFrame(rows)
    models = models[models["n_samples"] == models["n_samples"].max()]
    keys = ["family", "teacher", "grade", "window", "dilation", "n_samples"]
    grouped = models.groupby(keys, sort=False)
    summary = grouped.agg(
        n_seeds=(metric, "size"),
        **{metric: (metric, "mean"), "stderr": (metric, "sem")},
        p50_ms=("p50_ms", "median"),
        p99_ms=("p99_ms", "median"),
    )
    models = pd.DataFrame(summary.reset_index().sort_values("p99_ms", ignore_index=True))
    models.insert(0, "model", [_name(model, models) for model in models.to_dict("records")])
    return models


def _name(model: dict[Any, Any], models: pd.DataFrame) -> str:
    """The grade by its family, e.g. distilled LightSUAN-3; with k and r where those vary."""
    name = str(model["grade"])
    if model["window"] and not name.startswith("Light"):
        name = f"Light{name}" if name.startswith("SUAN") else f"LightSUAN {name}"
    if model["family"].startswith("distilled"):
        name = f"distilled {name}"
        if model["teacher"]:
            name += f" ({model['teacher']})"
    light = models[models["window"] > 0]
    if model["window"] and len(light[["window", "dilation"]].drop_duplicates()) > 1:
        name += f" (k={model['window']}, r={model['dilation']})"
    return name


def _latency(report: ServingReport, n_candidates: int) -> Latency | None:
    found = {one.way: one for one in report.latencies if one.n_candidates == n_candidates}
    return next((found[way] for way in _SERVED if way in found), None)


def _family(run: dict[Any, Any], light: bool) -> str:
    family = "LightSUAN" if light else "SUAN"
    return family if run.get("distill", "none") == "none" else f"distilled {family}"


def _teacher(run: dict[Any, Any], columns: list[str]) -> str:
    """How a distilled run was taught, as far as the table's runs differ in it, e.g. `frozen SUAN-3 lambda 4`."""
    if run.get("distill", "none") == "none":
        return ""
    told = {column: str(run[column]) for column in columns}
    return " ".join(f"{_TAUGHT[column]}{value}" for column, value in told.items())


def pareto_front(models: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the models that no other beats in both latency and metric, the fastest first."""
    ordered = models.sort_values(["p99_ms", metric], ascending=[True, not rises(metric)])
    gain = ordered[metric] if rises(metric) else -ordered[metric]
    before = gain.cummax().shift(fill_value=-np.inf)
    return ordered[gain > before].reset_index(drop=True)


def best_under(models: pd.DataFrame, metric: str, budget_ms: float) -> str:
    """Say which is the best model within a latency budget, in one sentence."""
    within = models[models["p99_ms"] <= budget_ms]
    if within.empty:
        return f"no model stays under {budget_ms:g} ms at p99"
    best = within.sort_values(metric, ascending=not rises(metric)).iloc[0]
    return (
        f"the best model under {budget_ms:g} ms is {best['model']}: "
        f"{LABELS.get(metric, metric)} {best[metric]:.4f}, p99 {best['p99_ms']:.2g} ms"
    )


def plot_latency(
    models: pd.DataFrame, metric: str, *, budget_ms: float = 10.0, ax: Axes | None = None
) -> Axes:
    """Plot a metric against p99 latency, one colour per family, the Pareto front and a budget.

    Args:
        models: from `served_models`.
        metric: its column.
        budget_ms: latency that a request may take.
        ax: where to plot; a new figure by default.
    """
    if ax is None:
        ax = new_axes()
    front = pareto_front(models, metric)
    end = max(float(models["p99_ms"].max()), budget_ms) * 1.5
    ax.step(
        [*front["p99_ms"], end], [*front[metric], front[metric].iloc[-1]], where="post",
        color="black", lw=1.0, ls="--", label="Pareto front", zorder=1,
    )  # fmt: skip
    for family, part in models.groupby("family", sort=False):
        colour, marker = _LOOKS[str(family)]
        ax.errorbar(
            part["p99_ms"], part[metric], yerr=part["stderr"].fillna(0.0), fmt=marker, color=colour,
            ms=6.5, mec="white", mew=0.6, elinewidth=1.0, capsize=2.0, label=str(family), zorder=3,
        )  # fmt: skip
        for _, model in part.iterrows():
            ax.annotate(
                str(model["model"]), (model["p99_ms"], model[metric]), (6, 4), fontsize=7.5,
                textcoords="offset points", color=colour,
            )  # fmt: skip
    ax.axvline(budget_ms, color=_GREY, lw=1.2, ls=":", label=f"budget {budget_ms:g} ms", zorder=0)
    ax.set_xscale("log")
    ax.set_xlim(float(models["p99_ms"].min()) / 1.3, end)
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("p99 latency of a request (ms)")
    ax.set_ylabel(LABELS.get(metric, metric))
    ax.set_title(best_under(models, metric, budget_ms), fontsize=9, loc="left")
    dress(ax)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9)
    return ax
