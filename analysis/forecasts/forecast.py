"""A forecast: what a law says about a cell that nobody has trained, with all that is needed to judge it later."""

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.fit import LawFit
from analysis.forecasts.targets import cell_rows
from analysis.table import size_label
from scaling.atomic_files import json_values
from scaling.errors import UserError
from scaling.metrics import stderr_name
from scaling.notebook_html import notebook_table
from scaling.records import describe_environment, read_code_version

__all__ = ["Forecast", "Spent", "digest_of", "make_forecast", "size_text"]


# Fields that answer a forecast's question, or say when and by which code; all others are the question itself.
_ANSWER = ("made", "code", "value", "lower", "upper", "reach", "status", "fit", "grade", "spent")


@dataclass(frozen=True)
class Spent:
    """Compute, None where the table does not tell it.

    Attributes:
        runs_flops: training FLOPs of the runs behind the law, each counted in full.
        runs_hours: their training time.
        target_flops: training FLOPs of one run at the target.
    """

    runs_flops: float | None
    runs_hours: float | None
    target_flops: float | None


@dataclass(frozen=True)
class Forecast:
    """One forecast; its JSON form is a file of the ledger.

    Attributes:
        made: UTC time, ISO 8601.
        study: title of the study or table.
        metric: column.
        target: size by column.
        grade: name of the target's grade, if known.
        law: name of the law.
        options: how it was fitted; `fixed` contains assumed parameters.
        status: of the fit.
        value: the forecast metric.
        lower, upper: 95 % prediction interval of one run.
        reach: target over largest run, by column; up to 1 is inside the runs.
        settings: that a run at the target must have in common with the runs behind the law, as text by column.
        table_sha256: of the rows behind the law (`table_digest`).
        n_runs, n_cells: behind the law.
        spent: compute of the runs and of the target.
        code: version of the package, git commit, whether there were uncommitted changes.
        fit: the whole fit (`LawFit.to_document`), for the interval of a mean of several seeds.
        format: version of this form.
    """

    made: str
    study: str
    metric: str
    target: dict[str, float]
    grade: str | None
    law: str
    options: dict[str, Any]
    status: str
    value: float
    lower: float
    upper: float
    reach: dict[str, float]
    settings: dict[str, str]
    table_sha256: str
    n_runs: int
    n_cells: int
    spent: Spent
    code: dict[str, Any]
    fit: dict[str, Any]
    format: int = 1

    @property
    def key(self) -> str:
        """Identity of the question: target, law, options, settings and table; 12 hex digits."""
        question = {name: v for name, v in asdict(self).items() if name not in _ANSWER}
        return digest_of(question)[:12]

    @property
    def assumed(self) -> dict[str, float]:
        """Parameters that were assumed, not fitted."""
        return dict(self.options["fixed"])

    @property
    def law_text(self) -> str:
        """The law and what was assumed, e.g. `additive (E = 0.39 assumed)`."""
        held = ", ".join(f"{name} = {value:.5g}" for name, value in self.assumed.items())
        return f"{self.law} ({held} assumed)" if held else self.law

    @property
    def place(self) -> str:
        """The target as text, e.g. `SUAN-5, n_samples 4.19M`."""
        parts = [f"{column} {size_text(size)}" for column, size in self.target.items()]
        return ", ".join([self.grade, *parts[1:]] if self.grade else parts)

    def interval(self, n_runs: int) -> tuple[float, float]:
        """The 95 % prediction interval of the mean of several runs."""
        if n_runs == 1:
            return self.lower, self.upper
        band = LawFit.from_document(self.fit).band(*self.target.values(), n_runs=n_runs)
        return float(band.prediction_lower), float(band.prediction_upper)

    def _repr_html_(self) -> str:
        reach = ", ".join(f"{column} x {times:.3g}" for column, times in self.reach.items())
        rows = [
            ("target", self.place),
            (self.metric, f"{self.value:.5f} [{self.lower:.5f}, {self.upper:.5f}]"),
            ("law", f"{self.law_text}: {self.status}"),
            ("target over largest run", reach),
            ("behind it", f"{self.n_runs} runs in {self.n_cells} cells"),
            ("made", self.made),
        ]
        caption = f"Forecast {self.key} of one run, with its 95 % prediction interval"
        return notebook_table(caption, ["", "value"], rows)


def size_text(size: float) -> str:
    """A size, rounded, in a few characters."""
    return size_label(size) if 1 <= size < 1e15 else f"{size:.3g}"


def digest_of(document: Any) -> str:
    """SHA-256 of a JSON document, independent of the order of keys and of white space."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def make_forecast(
    fit: LawFit,
    rows: pd.DataFrame,
    table: pd.DataFrame,
    target: Mapping[str, float],
    *,
    study: str,
    settings: Mapping[str, str],
    grade: str | None = None,
    target_flops: float | None = None,
) -> Forecast:
    """Forecast the metric of a fit at sizes that no run has.

    Args:
        fit: of `rows`.
        rows: the runs behind it.
        table: all known runs, also those that the fit left out.
        target: size by column, in the order of the law's variables.
        study: title.
        settings: of the rows (`settings_of`).
        grade: name of the target's grade.
        target_flops: training FLOPs of a run at the target.

    Raises:
        UserError: a run at the target exists, or the fit has no curve, no interval, or no finite number there.
    """
    place = ", ".join(f"{column} {size:.10g}" for column, size in target.items())
    trained = cell_rows(table, target, settings, fit.y)
    if len(trained):
        raise UserError(
            f"{place}: {len(trained)} finished run{'s' * (len(trained) > 1)} there, so this is no forecast; "
            "give other sizes, or use `scaling holdout`"
        )
    if not fit.has_curve or not fit.noise.dof:
        raise UserError(f"{place}: no interval to forecast with: {fit.message}")
    band = fit.band(*target.values(), level=0.95)
    numbers = [float(v) for v in (band.mean, band.prediction_lower, band.prediction_upper)]
    if not np.isfinite(numbers).all():
        raise UserError(f"{place}: too far from the runs for a number")
    document = fit.to_document()
    kept = ("loss", "delta", "over", "residual", "weights", "fixed", "interval_method", "seed")
    options = {name: document[name] for name in (*kept, "n_draws")} | {
        "rising": fit.law.rising,
        "limit": fit.law.limit,
        "fixed": dict(fit.options.fixed),
    }
    sizes = dict(zip(fit.columns.values(), fit.law.variables, strict=True))
    return Forecast(
        made=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        study=study,
        metric=fit.y,
        target={column: float(size) for column, size in target.items()},
        grade=grade,
        law=fit.law.name,
        options=json_values(options),
        status=fit.status,
        value=numbers[0],
        lower=numbers[1],
        upper=numbers[2],
        reach={c: float(size) / fit.spans[sizes[c]][1] for c, size in target.items()},
        settings=dict(settings),
        table_sha256=_table_digest(rows, fit),
        n_runs=fit.n_points,
        n_cells=fit.n_cells,
        spent=Spent(_total(rows, "flops"), _total(rows, "train_seconds", 3600), target_flops),
        code=dict(_code()),
        fit=document,
    )


def _table_digest(rows: pd.DataFrame, fit: LawFit) -> str:
    """SHA-256 of what the fit read: sizes, metric, seed, error and run of each row, in any order."""
    read = [*fit.columns.values(), fit.y, stderr_name(fit.y), "seed", "trajectory", "grade"]
    columns = [c for c in dict.fromkeys(read) if c in rows.columns]
    lines = sorted(rows[columns].to_csv(index=False, header=False).splitlines())
    return hashlib.sha256("\n".join([",".join(columns), *lines]).encode()).hexdigest()


def _total(rows: pd.DataFrame, column: str, unit: float = 1.0) -> float | None:
    if column not in rows.columns or not pd.api.types.is_numeric_dtype(rows[column]):
        return None
    total = float(rows[column].sum()) / unit
    return total if np.isfinite(total) else None


@cache
def _code() -> dict[str, Any]:
    version = read_code_version(Path(__file__).resolve().parents[2])
    package = describe_environment("")["versions"]["ctr-scaling"]
    return {
        "package": package,
        "git_commit": version["git_commit"] or None,
        "git_dirty": version["git_dirty"],
    }
