"""Compare the forecasts of a ledger with the records that came later: hit, miss, open, not counted, damaged."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.fit import LawFit
from analysis.forecasts.forecast import Forecast
from analysis.forecasts.ledger import Entry
from analysis.forecasts.targets import cell_rows
from analysis.table import split_variants, value_text
from scaling.errors import UserError

__all__ = ["NOT_DATED", "Outcome", "Score", "score_forecasts", "score_rows"]


# Said of a hit or miss that may not be a forecast at all.
NOT_DATED = "no time tells whether the forecast is older than its runs"

Outcome = Literal["hit", "miss", "open", "does not count", "damaged"]


@dataclass(frozen=True)
class Score:
    """A file of the ledger and what came of it.

    Attributes:
        path: of the file.
        forecast: None if the file is damaged.
        outcome: hit (the measured mean lies in the interval), miss, open (no run at the target yet), does not count
            (the target was known when the forecast was made, or nobody can say which runs are meant), damaged.
        note: the reason if it is open, does not count or is damaged, or `NOT_DATED`.
        n_runs: runs at the target.
        measured: their mean metric.
        stderr: its standard error, from the scatter of these runs; NaN for one run.
        lower, upper: 95 % prediction interval of the mean of as many runs.
        error: measured minus forecast, in half widths of the interval; beyond 1 is a miss.
    """

    path: Path
    forecast: Forecast | None
    outcome: Outcome
    note: str = ""
    n_runs: int = 0
    measured: float = float("nan")
    stderr: float = float("nan")
    lower: float = float("nan")
    upper: float = float("nan")
    error: float = float("nan")


def score_forecasts(entries: Sequence[Entry], table: pd.DataFrame) -> list[Score]:
    """Score every file of a ledger.

    Args:
        entries: of the ledger.
        table: all known runs, one row each; its column `started` tells which of them a forecast is older than.
    """
    return [_score(entry, table) for entry in entries]


def _score(entry: Entry, table: pd.DataFrame) -> Score:
    path, forecast = entry.path, entry.forecast
    if forecast is None:
        return Score(path, None, "damaged", entry.problem)
    if _was_fitted(forecast):
        return Score(path, forecast, "does not count", "its table contained the target")
    try:
        runs = cell_rows(table, forecast.target, forecast.settings, forecast.metric)
        others = cell_rows(table, forecast.target, {}, forecast.metric)
    except UserError as problem:
        return Score(path, forecast, "open", str(problem))
    if runs.empty:
        return Score(path, forecast, "open", _difference(others, forecast.settings))
    if len(split_variants(runs.reset_index(drop=True))) > 1:
        return Score(
            path, forecast, "does not count", "the runs at the target are of several variants"
        )
    try:
        made, started = _time(forecast.made), _start_times(runs)
    except ValueError as problem:
        return Score(path, forecast, "does not count", f"a time cannot be read: {problem}")
    if any(time < made for time in started):
        return Score(path, forecast, "does not count", "a run at the target had begun before")
    values = runs[forecast.metric].to_numpy(dtype=float)
    n, mean = len(values), float(values.mean())
    stderr = float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    lower, upper = forecast.interval(n)
    side = upper - forecast.value if mean >= forecast.value else forecast.value - lower
    error = (mean - forecast.value) / side if side > 0 else float("nan")
    outcome: Outcome = "hit" if lower <= mean <= upper else "miss"
    note = "" if len(started) == n else NOT_DATED
    return Score(path, forecast, outcome, note, n, mean, stderr, lower, upper, error)


def _difference(runs: pd.DataFrame, settings: Mapping[str, str]) -> str:
    """Why runs at the target are not those of the forecast; empty if there is no run yet."""
    if runs.empty:
        return ""
    differing = [
        f"{column}={value_text(runs[column].iloc[0])} instead of {value}"
        for column, value in settings.items()
        if column in runs.columns and value_text(runs[column].iloc[0]) != value
    ]
    return f"the runs at the target have {', '.join(differing)}"


def _was_fitted(forecast: Forecast) -> bool:
    """Whether the fit behind a forecast had a cell at the target."""
    cells = LawFit.from_document(forecast.fit).cell_sizes
    sizes = np.array(list(forecast.target.values()))
    return bool(np.isclose(cells, sizes, rtol=1e-6, atol=0.0).all(axis=1).any())


def _start_times(runs: pd.DataFrame) -> list[dt.datetime]:
    """When the runs began, where the table tells."""
    if "started" not in runs.columns:
        return []
    return [_time(text) for text in runs["started"] if isinstance(text, str)]


def _time(text: str) -> dt.datetime:
    time = dt.datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)


def score_rows(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """The scores as flat rows; what is not known is None or NaN.

    Returns:
        For each file: file, made, study, metric, target, grade, law, assumed, status, predicted, lower, upper (the
        interval of the measured mean; of one run while it is open), reach, runs_flops, target_flops, n_runs,
        measured, stderr, outcome, error, note.
    """
    return [_row(score) for score in scores]


def _row(score: Score) -> dict[str, Any]:
    one = score.forecast
    known = score.n_runs > 0 and one is not None
    about: dict[str, Any] = {
        "made": one.made if one else None,
        "study": one.study if one else None,
        "metric": one.metric if one else None,
        "target": one.target if one else None,
        "grade": one.grade if one else None,
        "law": one.law if one else None,
        "assumed": one.assumed if one else None,
        "status": one.status if one else None,
        "predicted": one.value if one else None,
        "lower": score.lower if known else one.lower if one else None,
        "upper": score.upper if known else one.upper if one else None,
        "reach": one.reach if one else None,
        "runs_flops": one.spent.runs_flops if one else None,
        "target_flops": one.spent.target_flops if one else None,
    }
    measured = {
        name: getattr(score, name)
        for name in ("n_runs", "measured", "stderr", "outcome", "error", "note")
    }
    return {"file": score.path.name, **about, **measured}
