"""The table of a verb on laws, from a study file, a folder of runs or a CSV, and the choice of its rows."""

from __future__ import annotations

import logging
import math
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.atomic_files import json_values
from scaling.cli.output import runs_root
from scaling.errors import UserError, nearest

if TYPE_CHECKING:
    import pandas as pd

    from analysis.fit import LawFit

__all__ = [
    "Loaded",
    "choices",
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


@dataclass(frozen=True)
class Loaded:
    """A table, the folder for its results, its title, and whether it comes from run records."""

    table: pd.DataFrame
    folder: Path
    title: str
    is_study: bool


def load_table(source: Path, runs: Path | None, where: list[str] | None) -> Loaded:
    """Read the table of a verb; that of a study file or folder contains its finished runs.

    Raises:
        UserError: it cannot be read, or a condition matches no row.
    """
    from analysis.table import read_table, runs_table

    if source.suffix == ".toml":
        from scaling.study import load_study

        study = load_study(source)
        folder = runs_root(runs) / study.name
        title = study.study.description or study.name
        _warn_of_missing(source, runs)
        return Loaded(_filtered(runs_table(folder), where), folder, title, True)
    if source.is_dir():
        return Loaded(_filtered(runs_table(source), where), source, source.resolve().name, True)
    rows = read_table(source)
    stem = "stdin" if str(source) == "-" else source.stem
    folder = source.parent / f"{stem}-analysis"
    return Loaded(_filtered(rows, where), folder, stem, False)


def load_tables(sources: list[Path], runs: Path | None, where: list[str] | None) -> pd.DataFrame:
    """Read the finished runs of several studies or folders into one table, or one CSV.

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
            _warn_of_missing(source, runs)
        elif source.is_dir():
            folders.append(source)
        else:
            raise UserError(f"{source}: only studies and their folders can be combined")
    return _filtered(runs_table(*folders), where)


def _warn_of_missing(source: Path, runs: Path | None) -> None:
    """Log the planned runs that are not done, as the results rest on the others only."""
    planned = planned_runs(source, runs)
    if planned is None or (planned["state"] == "done").all():
        return
    absent = planned[planned["state"] != "done"]
    counts = absent["state"].value_counts()
    named = [f"{row.grade} D={row.n_samples} s{row.seed}" for row in absent.head(5).itertuples()]
    logger.warning(
        "%d of %d planned runs are not done (%s): %s%s",
        len(absent),
        len(planned),
        ", ".join(f"{count} {state}" for state, count in counts.items()),
        ", ".join(named),
        ", ..." if len(absent) > len(named) else "",
    )


def matching(rows: pd.DataFrame, conditions: list[str], option: str = "--where") -> pd.Series:
    """Whether each row meets all conditions COLUMN=VALUE; whole numbers with or without a decimal point.

    Raises:
        UserError: a condition is malformed, or no row is left.
    """
    from analysis.table import value_text

    found = rows[rows.columns[0]].notna() | True
    for condition in conditions:
        column, equals, wanted = condition.partition("=")
        if column not in rows.columns:
            known = choices(column, (str(c) for c in rows.columns))
            raise UserError(f"{option} {condition}: no column {column or 'is named'}{known}")
        texts = rows[column].map(value_text)
        if not equals:
            example = shlex.quote(f"{column}={texts[found].mode().iloc[0]}")
            raise UserError(f"{option} {condition}: expected COLUMN=VALUE, e.g. {example}")
        here = found & ((texts == wanted) | (rows[column].astype(str) == wanted))
        if not here.any():
            raise UserError(
                f"{option} {condition}: no such row{choices(wanted, set(texts[found]))}"
            )
        found = here
    return found


def choices(name: str, valid: Iterable[str], most: int = 12) -> str:
    """As `nearest`, but only the first of many valid names are listed."""
    known = sorted(valid)
    hint = nearest(name, known)
    if len(known) <= most or "did you mean" in hint:
        return hint
    return f", expected one of: {', '.join(known[:most])} and {len(known) - most} more"


def _filtered(rows: pd.DataFrame, where: list[str] | None) -> pd.DataFrame:
    return rows[matching(rows, where or [])]


def one_variant(rows: pd.DataFrame, x: str = "n_params") -> pd.DataFrame:
    """The rows, if one law of the size `x` may describe them all.

    A foreign table gets a warning instead of an error, as only its owner knows which runs belong together.

    Raises:
        UserError: there is no column `x`, our runs differ in more than sizes and seed, or a run stands twice.
    """
    from analysis.table import (
        check_runs,
        describe_differences,
        largest_variant,
        split_variants,
    )

    if x not in rows.columns:  # before the error on variants, which would hide it
        raise UserError(f"table: no column {x}{nearest(x, [str(name) for name in rows.columns])}")
    variants = split_variants(rows, x)
    if len(variants) > 1:
        text = f"the runs differ in more than sizes: {describe_differences(rows, x)}"
        largest = largest_variant(rows, x)
        choice = " ".join(f"--where {shlex.quote(f'{c}={v}')}" for c, v in largest.items())
        # Seeds of a foreign table may repeat from one recipe to the next, so they are not checked.
        if "signature" not in rows.columns:
            logger.warning("%s; fitted together, choose e.g. %s", text, choice)
            return rows
        raise UserError(f"{text}; choose one variant of {len(variants)}, e.g. {choice}")
    check_runs(rows)
    return rows


def metrics_of(rows: pd.DataFrame, wanted: list[str] | None = None) -> list[str]:
    """The metrics to fit: those wanted, or the table's logloss and AUC.

    Raises:
        UserError: the table lacks a wanted column, or none is wanted and it has neither logloss nor AUC.
    """
    from analysis.table import RUN_COLUMNS, TEACHER_COLUMNS, default_metrics
    from scaling.metrics import is_stderr

    for name in wanted or ():
        if name not in rows.columns:
            others = {str(c) for c in rows.columns} - {*RUN_COLUMNS, *TEACHER_COLUMNS}
            own = (c for c in others if not c.startswith(("model.", "teacher_")))
            metrics = [c for c in own if not is_stderr(c)]
            raise UserError(f"--y {name}: no column {name}{choices(name, metrics)}")
    metrics = wanted or default_metrics(rows)
    if not metrics:
        names = choices("", (str(c) for c in rows.columns)).removeprefix(", expected one of: ")
        raise UserError(
            f"the table has neither logloss nor auc: name the metric with --y ({names})"
        )
    return metrics


def whole_numbers(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows for people: columns of whole numbers without a decimal point, absent values as None."""
    import pandas as pd

    texts = rows.astype(object)
    for name in rows.columns:
        column = rows[name]
        if pd.api.types.is_float_dtype(column) and column.dropna().mod(1).eq(0).all():
            whole = [None if v != v else int(v) for v in column]
            texts[name] = pd.Series(whole, index=rows.index, dtype=object)
    return texts


def parse_numbers(pairs: list[str] | None, option: str = "--hold") -> dict[str, float]:
    """Parse `NAME=NUMBER` pairs.

    Raises:
        UserError: a pair has another form.
    """
    numbers = {}
    for pair in pairs or ():
        name, _, value = pair.partition("=")
        try:
            numbers[name] = float(value)
        except ValueError:
            raise UserError(f"{option} {pair}: expected NAME=NUMBER, e.g. E=0.4") from None
    return numbers


def parse_sizes(text: str, count: int) -> list[float]:
    """Parse sizes such as `1e8,1e9`.

    Raises:
        UserError: the text is not `count` positive numbers.
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
    """Predictions of a law at sizes, each as a line of text and as JSON values.

    Raises:
        UserError: sizes cannot be read or lie too far from the runs, or there is no curve.
    """
    found = []
    for text in at or ():
        sizes = parse_sizes(text, len(fit.law.variables))
        if not fit.has_curve:
            raise UserError(f"--at {text}: no curve to predict with: {fit.message}")
        band = fit.band(*sizes)
        ends = {
            name: float(getattr(band, name))
            for name in ("mean", "lower", "upper", "prediction_lower", "prediction_upper")
        }
        if fit.noise.dof and band.outside and not all(map(math.isfinite, ends.values())):
            spans = ", ".join(
                f"{fit.columns[v]} {low:.4g} to {high:.4g}" for v, (low, high) in fit.spans.items()
            )
            raise UserError(f"--at {text}: too far from the runs for a number; they span {spans}")
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
        values = json_values(ends)
        found.append((line, {**where, **values, "outside": bool(band.outside)}))
    return found


def planned_runs(source: Path, runs: Path | None) -> pd.DataFrame | None:
    """The planned runs of a study; None for other sources, or if the plan cannot be made."""
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
        logger.warning("%s; so missing runs are not listed", error)
        return None
    return pd.DataFrame(plan.rows())
