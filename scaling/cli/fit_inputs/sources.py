"""The table of a verb on laws, from a study file, a folder of runs or a CSV, and texts that choose rows and sizes."""

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

    from scaling.study import StudyConfig

__all__ = [
    "Loaded",
    "choices",
    "is_number",
    "load_table",
    "load_tables",
    "matching",
    "parse_numbers",
    "parse_sizes",
    "whole_numbers",
]


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """The table of a verb.

    Attributes:
        table: one row per run.
        folder: for the results.
        title: of a report.
        is_study: whether it comes from run records.
        planned: one row per planned run of a study file; None for other sources, or if the plan cannot be made.
        notes: remarks on the rows.
        known: every row that was read: also runs outside the grid, and rows that do not meet the conditions.
        study: of a study file; None for other sources.
    """

    table: pd.DataFrame
    folder: Path
    title: str
    is_study: bool
    planned: pd.DataFrame | None
    notes: tuple[str, ...]
    known: pd.DataFrame
    study: StudyConfig | None = None


def load_table(
    source: Path,
    runs: Path | None,
    where: list[str] | None,
    *,
    overrides: list[str] | None = None,
    whole_folder: bool = False,
) -> Loaded:
    """Read the table of a verb.

    A study file stands for the finished runs of its grid and its pursuit, not for others in its folder.

    Args:
        source: a study file, a study's run folder, a CSV, or `-` for stdin.
        runs: the folder of all runs; None for the default.
        where: conditions COLUMN=VALUE that rows must meet.
        overrides: of keys of the study file.
        whole_folder: take all runs in the folder of a study file.

    Raises:
        UserError: it cannot be read, a condition matches no row, or other sources than a study file have overrides.
    """
    from analysis.table import read_table, runs_table

    if source.suffix == ".toml":
        from scaling.study import load_study

        study = load_study(source, overrides or ())
        folder = runs_root(runs) / study.name
        title = study.study.description or study.name
        known = rows = runs_table(folder)
        planned = _planned(study, folder)
        _warn_of_missing(planned)
        notes: tuple[str, ...] = ()
        if planned is not None and not whole_folder:
            rows, notes = _of_the_grid(rows, planned, folder)
        return Loaded(_filtered(rows, where), folder, title, True, planned, notes, known, study)
    if overrides:
        raise UserError(f"--set {overrides[0]}: only a study file has keys, {source} is none")
    if source.is_dir():
        rows = runs_table(source)
        title = source.resolve().name
        return Loaded(_filtered(rows, where), source, title, True, None, (), rows)
    rows = read_table(source)
    stem = "stdin" if str(source) == "-" else source.stem
    folder = source.parent / f"{stem}-analysis"
    return Loaded(_filtered(rows, where), folder, stem, False, None, (), rows)


def load_tables(
    sources: list[Path],
    runs: Path | None,
    where: list[str] | None,
    *,
    overrides: list[str] | None = None,
    whole_folder: bool = False,
) -> pd.DataFrame:
    """Read the finished runs of several studies or folders into one table, or one CSV.

    Raises:
        UserError: as `load_table`, or a CSV is one of several.
    """
    how: dict[str, Any] = {"overrides": overrides, "whole_folder": whole_folder}
    if len(sources) == 1:
        return load_table(sources[0], runs, where, **how).table
    from analysis.table import runs_table

    loaded = []
    for source in sources:
        if source.suffix != ".toml" and not source.is_dir():
            raise UserError(f"{source}: only studies and their folders can be combined")
        loaded.append(load_table(source, runs, None, **how))
    rows = runs_table(*(one.folder for one in loaded))
    chosen = {signature for one in loaded for signature in one.table["signature"]}
    return _filtered(rows[rows["signature"].isin(chosen)].reset_index(drop=True), where)


def _of_the_grid(
    rows: pd.DataFrame, planned: pd.DataFrame, folder: Path
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows of planned and pursued runs, and a remark on the others.

    Raises:
        UserError: there is none.
    """
    from scaling.records import read_rounds

    pursued = [name for one in read_rounds(folder) for name in one.cells]  # maybe further seeds
    wanted = rows["signature"].isin([*planned["signature"], *pursued])
    if not wanted.any():
        raise UserError(
            f"{folder}: none of the planned runs is finished yet; --all reads the {len(rows)} others in the folder"
        )
    if wanted.all():
        return rows, ()
    note = f"{int((~wanted).sum())} finished runs in the folder are not of this plan: left out"
    logger.warning("%s (--all takes them, too)", note)
    return rows[wanted].reset_index(drop=True), (f"{note}.",)


def _warn_of_missing(planned: pd.DataFrame | None) -> None:
    """Log the planned runs that are not done, as the results rest on the others only."""
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


def _planned(study: StudyConfig, folder: Path) -> pd.DataFrame | None:
    """The planned runs of a study; None if the plan cannot be made, so that all runs of its folder count."""
    import pandas as pd

    from scaling.records import RunStore
    from scaling.study import data_facts
    from sweeps.planning import make_plan

    try:
        facts = data_facts(study.data)
        if facts.fingerprint is None:
            logger.warning(
                "%s: no data here, so the plan's runs are unknown and all runs of the folder count",
                study.data.path,
            )
            return None
        plan = make_plan(study, facts, RunStore(folder))
    except UserError as error:
        logger.warning(
            "%s; so all runs of the folder count, and missing ones are not listed", error
        )
        return None
    return pd.DataFrame(plan.rows())


def matching(rows: pd.DataFrame, conditions: list[str], option: str = "--where") -> pd.Series:
    """Whether each row meets all conditions COLUMN=VALUE; whole numbers with or without a decimal point.

    Raises:
        UserError: a condition is malformed, or no row is left.
    """
    import pandas as pd

    from analysis.table import header_of, value_text

    found = rows[rows.columns[0]].notna() | True
    for condition in conditions:
        column, equals, wanted = condition.partition("=")
        if column not in rows.columns:
            known = choices(column, (str(c) for c in rows.columns))
            raise UserError(
                f"{header_of(rows)}: {option} {condition}: no column {column or 'is named'}{known}"
            )
        texts = rows[column].map(value_text)
        if not equals:
            example = shlex.quote(f"{column}={texts[found].mode().iloc[0]}")
            raise UserError(f"{option} {condition}: expected COLUMN=VALUE, e.g. {example}")
        here = found & ((texts == wanted) | (rows[column].astype(str) == wanted))
        if not here.any() and is_number(wanted) and pd.api.types.is_numeric_dtype(rows[column]):
            here = found & (rows[column] == float(wanted))  # 1e-3 for 0.001
        if not here.any():
            raise UserError(
                f"{option} {condition}: no such row{choices(wanted, set(texts[found]))}"
            )
        found = here
    return found


def is_number(text: str) -> bool:
    """Whether Python reads the text as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def choices(name: str, valid: Iterable[str], most: int = 12) -> str:
    """As `nearest`, but only the first of many valid names are listed."""
    known = sorted(valid)
    hint = nearest(name, known)
    if len(known) <= most or "did you mean" in hint:
        return hint
    return f", expected one of: {', '.join(known[:most])} and {len(known) - most} more"


def _filtered(rows: pd.DataFrame, where: list[str] | None) -> pd.DataFrame:
    return rows[matching(rows, where or [])]


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
