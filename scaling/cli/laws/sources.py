"""Where the verbs on laws get their table: a study file, a folder of runs or a CSV, and its rows."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.cli.output import runs_root
from scaling.errors import UserError, nearest

if TYPE_CHECKING:
    import pandas as pd

    from analysis.fit import LawFit

__all__ = [
    "Loaded",
    "choices",
    "json_records",
    "load_table",
    "load_tables",
    "matching",
    "metrics_of",
    "one_variant",
    "parse_numbers",
    "parse_sizes",
    "planned_runs",
    "predictions",
    "whole_numbers",
]


logger = logging.getLogger(__name__)

_INFINITE = (float("inf"), float("-inf"))


@dataclass(frozen=True)
class Loaded:
    """A table, the folder that its results go to, its title, and whether it comes from run records."""

    table: pd.DataFrame
    folder: Path
    title: str
    is_study: bool


def load_table(source: Path, runs: Path | None, where: list[str] | None) -> Loaded:
    """Read the table that a verb works on; study files and folders stand for their finished runs.

    Raises:
        UserError: it cannot be read, or a condition matches no row.
    """
    from analysis.table import read_table, runs_table

    if source.suffix == ".toml":
        from scaling.study import load_study

        study = load_study(source)
        folder = runs_root(runs) / study.name
        title = study.study.description or study.name
        _tell_missing(source, runs)
        return Loaded(_filtered(runs_table(folder), where), folder, title, True)
    if source.is_dir():
        return Loaded(_filtered(runs_table(source), where), source, source.resolve().name, True)
    rows = read_table(source)
    stem = "stdin" if str(source) == "-" else source.stem
    folder = source.parent / f"{stem}-analysis"
    return Loaded(_filtered(rows, where), folder, stem, False)


def load_tables(sources: list[Path], runs: Path | None, where: list[str] | None) -> pd.DataFrame:
    """Read the finished runs of several studies or folders into one table; or one CSV.

    Raises:
        UserError: as `load_table`, or a CSV is one of several.
    """
    if len(sources) == 1:
        return load_table(sources[0], runs, where).table
    from analysis.table import runs_table

    folders = []
    for source in sources:
        if source.suffix == ".toml":
            from scaling.study import load_study

            folders.append(runs_root(runs) / load_study(source).name)
            _tell_missing(source, runs)
        elif source.is_dir():
            folders.append(source)
        else:
            raise UserError(f"{source}: only studies and their folders are taken together")
    return _filtered(runs_table(*folders), where)


def _tell_missing(source: Path, runs: Path | None) -> None:
    """Name the planned runs that are not done: what follows rests on the others."""
    planned = planned_runs(source, runs)
    if planned is None or (planned["state"] == "done").all():
        return
    absent = planned[planned["state"] != "done"]
    counts = absent["state"].value_counts()
    told = [f"{row.grade} D={row.n_samples} s{row.seed}" for row in absent.head(5).itertuples()]
    logger.warning(
        "%d of %d planned runs are not done (%s): %s%s",
        len(absent),
        len(planned),
        ", ".join(f"{count} {state}" for state, count in counts.items()),
        ", ".join(told),
        ", ..." if len(absent) > len(told) else "",
    )


def matching(rows: pd.DataFrame, conditions: list[str], option: str = "--where") -> pd.Series:
    """Which rows fulfil all conditions COLUMN=VALUE, boolean; whole numbers with or without a point.

    Raises:
        UserError: a condition is none, or no row is left.
    """
    from analysis.table import value_text

    found = rows[rows.columns[0]].notna() | True
    for condition in conditions:
        column, equals, wanted = condition.partition("=")
        if column not in rows.columns:
            known = choices(column, (str(c) for c in rows.columns))
            raise UserError(f"{option} {condition}: no column {column or 'is named'}{known}")
        told = rows[column].map(value_text)
        if not equals:
            example = shlex.quote(f"{column}={told[found].mode().iloc[0]}")
            raise UserError(f"{option} {condition}: expected COLUMN=VALUE, e.g. {example}")
        here = found & ((told == wanted) | (rows[column].astype(str) == wanted))
        if not here.any():
            raise UserError(f"{option} {condition}: no such row{choices(wanted, set(told[found]))}")
        found = here
    return found


def choices(name: str, valid: Iterable[str], most: int = 12) -> str:
    """As `nearest`, but of many valid names only the first are told."""
    known = sorted(valid)
    told = nearest(name, known)
    if len(known) <= most or "did you mean" in told:
        return told
    return f", expected one of: {', '.join(known[:most])} and {len(known) - most} more"


def _filtered(rows: pd.DataFrame, where: list[str] | None) -> pd.DataFrame:
    return rows[matching(rows, where or [])].reset_index(drop=True)


def one_variant(rows: pd.DataFrame, x: str = "n_params") -> pd.DataFrame:
    """The rows, if one law of the size `x` may describe them all.

    Of runs that are not ours only their owner knows what may be fitted together: they get a warning.

    Raises:
        UserError: there is no column `x`, our runs differ in more than sizes and seed, or one stands twice.
    """
    from analysis.table import check_runs, largest_variant, split_variants

    if x not in rows.columns:  # before it is told as one of many variants
        raise UserError(f"table: no column {x}{nearest(x, [str(name) for name in rows.columns])}")
    variants = split_variants(rows, x)
    if len(variants) > 1:
        text = f"the runs differ in more than sizes: {_differences(rows, x)}"
        largest = largest_variant(rows, x)
        choice = " ".join(f"--where {shlex.quote(f'{c}={v}')}" for c, v in largest.items())
        # Their seeds may repeat from one recipe to the next.
        if "signature" not in rows.columns:
            logger.warning("%s; fitted together, choose e.g. %s", text, choice)
            return rows
        raise UserError(f"{text}; choose one variant of {len(variants)}, e.g. {choice}")
    check_runs(rows)
    return rows


def _differences(rows: pd.DataFrame, x: str, most: int = 3) -> str:
    """The columns in which variants differ, each with some of its values."""
    from analysis.table import law_columns, value_text

    told = []
    for column in law_columns(rows, x):
        values = sorted({value_text(value) for value in rows[column].dropna()})
        more = ", ..." if len(values) > most else ""
        told.append(f"{column} ({len(values)}: {', '.join(values[:most])}{more})")
    return ", ".join(told)


def metrics_of(rows: pd.DataFrame, wanted: list[str] | None = None) -> list[str]:
    """The metrics to fit: those wanted, or the table's logloss and AUC.

    Raises:
        UserError: the table has no such column, or where none is named neither a logloss nor an AUC.
    """
    from analysis.table import RUN_COLUMNS, TEACHER_COLUMNS, default_metrics

    for name in wanted or ():
        if name not in rows.columns:
            others = {str(c) for c in rows.columns} - {*RUN_COLUMNS, *TEACHER_COLUMNS}
            own = (c for c in others if not c.startswith(("model.", "teacher_")))
            metrics = [c for c in own if not c.endswith("_stderr")]
            raise UserError(f"--y {name}: no column {name}{choices(name, metrics)}")
    metrics = wanted or default_metrics(rows)
    if not metrics:
        names = choices("", (str(c) for c in rows.columns)).removeprefix(", expected one of: ")
        raise UserError(
            f"the table has neither logloss nor auc: name the metric with --y ({names})"
        )
    return metrics


def whole_numbers(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows for people: numbers of columns that hold only whole ones without a point, absent ones as None."""
    import pandas as pd

    told = rows.astype(object)
    for name in rows.columns:
        column = rows[name]
        if pd.api.types.is_float_dtype(column) and column.dropna().mod(1).eq(0).all():
            told[name] = pd.Series([None if v != v else int(v) for v in column], dtype=object)
    return told


def parse_numbers(pairs: list[str] | None) -> dict[str, float]:
    """`NAME=NUMBER` pairs.

    Raises:
        UserError: one is not.
    """
    numbers = {}
    for pair in pairs or ():
        name, _, value = pair.partition("=")
        try:
            numbers[name] = float(value)
        except ValueError:
            raise UserError(f"--hold {pair}: expected NAME=NUMBER, e.g. E=0.4") from None
    return numbers


def parse_sizes(text: str, count: int) -> list[float]:
    """Sizes such as `1e8,1e9`.

    Raises:
        UserError: they are not `count` positive numbers.
    """
    try:
        sizes = [float(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if len(sizes) != count or not all(0 < size < float("inf") for size in sizes):
        example = ",".join(["1e8", "1e9", "1e3", "1"][:count])
        raise UserError(f"--at {text}: expected {count} positive sizes, e.g. {example}")
    return sizes


def predictions(fit: LawFit, at: list[str] | None) -> list[tuple[str, dict[str, Any]]]:
    """What a law predicts at sizes, as a line of text and as JSON values.

    Raises:
        UserError: sizes cannot be read, or there is no curve.
    """
    told = []
    for text in at or ():
        sizes = parse_sizes(text, len(fit.law.variables))
        if not fit.has_curve:
            raise UserError(f"--at {text}: no curve to predict by: {fit.message}")
        band = fit.band(*sizes)
        ends = {
            name: float(getattr(band, name))
            for name in ("mean", "lower", "upper", "prediction_lower", "prediction_upper")
        }
        where = dict(zip((fit.columns[v] for v in fit.law.variables), sizes, strict=True))
        beyond = max(
            size / fit.spans[v][1] for size, v in zip(sizes, fit.law.variables, strict=True)
        )
        place = ", ".join(f"{name} {size:.4g}" for name, size in where.items())
        line = (
            f"  at {place}: {ends['mean']:.5g} [{ends['lower']:.5g}, {ends['upper']:.5g}], one run "
            f"[{ends['prediction_lower']:.5g}, {ends['prediction_upper']:.5g}]"
        )
        if bool(band.outside):
            line += (
                f", beyond the runs ({beyond:.3g} x the largest)"
                if beyond > 1
                else ", beyond the runs"
            )
        values = {name: None if end != end else end for name, end in ends.items()}
        told.append((line, {**where, **values, "outside": bool(band.outside)}))
    return told


def planned_runs(source: Path, runs: Path | None) -> pd.DataFrame | None:
    """The study's planned runs, where its data are at hand to plan with."""
    import pandas as pd

    if source.suffix != ".toml":
        return None
    from scaling.records import RunStore
    from scaling.study import data_facts, load_study
    from sweeps.planning import make_plan

    study = load_study(source)
    try:
        facts = data_facts(study.data)
        if facts.fingerprint is None:
            return None
        plan = make_plan(study, facts, RunStore(runs_root(runs) / study.name))
    except UserError as error:
        logger.warning("%s; so missing runs are not named", error)
        return None
    return pd.DataFrame(plan.rows())


def json_records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON values: plain Python numbers, null where there is none or it is infinite."""
    return [
        {
            str(key): None
            if value != value or value in _INFINITE
            else getattr(value, "item", lambda v=value: v)()
            for key, value in row.items()
        }
        for row in rows.to_dict("records")
    ]
