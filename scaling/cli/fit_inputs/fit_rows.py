"""The rows that a fit takes: one variant, metrics and their directions, the best setting of each cell."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING

from scaling.cli.fit_inputs.missing_columns import (
    check_settings,
    check_size_columns,
    missing_metric,
    missing_size,
)
from scaling.cli.fit_inputs.sources import choices
from scaling.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FitRows",
    "direction_for",
    "metrics_of",
    "one_variant",
    "refuse_law_of_metric",
    "rows_of_law",
    "rows_to_fit",
    "size_columns",
]


logger = logging.getLogger(__name__)

_SHOWN = 5  # rows that a warning names


@dataclass(frozen=True)
class FitRows:
    """The rows of a fit.

    Attributes:
        table: one row per run, of one variant.
        metrics: columns to fit.
        rising: whether larger is better, for each metric.
        notes: remarks on the rows that belong to the results.
    """

    table: pd.DataFrame
    metrics: list[str]
    rising: dict[str, bool]
    notes: tuple[str, ...]

    def warn(self) -> None:
        """Log the notes, for a verb whose results have no place for them."""
        for note in self.notes:
            logger.warning("%s", note)


def rows_to_fit(
    table: pd.DataFrame,
    sizes: Sequence[str],
    metrics: list[str],
    *,
    rising: bool | None = None,
    best_of: str | None = None,
) -> FitRows:
    """Choose the rows of a fit and find the directions of its metrics.

    Args:
        table: one row per run.
        sizes: columns of the law's sizes.
        metrics: columns to fit; the first decides what is best.
        rising: the direction of the only metric, or of those of several whose names do not tell it.
        best_of: columns of settings, separated by commas, of which the best counts in each cell.

    Raises:
        UserError: a column is missing or not of numbers, a metric's direction is not known, or a setting is none.
    """
    from analysis.table import best_settings, differing_settings, require_columns

    check_size_columns(table, sizes)
    require_columns(table, [*sizes, *dict.fromkeys(metrics)])
    found = {metric: _rises(table, metric, sizes, rising, len(metrics) == 1) for metric in metrics}
    notes = []
    if best_of is not None:
        settings = [name.strip() for name in best_of.split(",")]
        first = metrics[0]
        check_settings(table, settings)
        best = best_settings(table, settings, sizes=sizes, metric=first, rising=found[first])
        table = best.table
        notes.append(_bias_note(settings, first, best.fewest, best.most, found[first]))
    differing = differing_settings(table, sizes, metrics)
    if differing:
        notes.append(
            f"rows of equal {', '.join(sizes)} differ in {', '.join(differing)}, too; the fit takes the effect for noise, so "
            "its law is that of an average setting and its intervals are not those of seeds: choose rows with --where, or the "
            f"best of each cell with --best-of {','.join(differing)}"
        )
    return FitRows(table, metrics, found, tuple(notes))


def size_columns(
    law: str,
    x: str,
    data: str,
    length: str = "max_len",
    epochs: str = "epochs",
    embeddings: str = "n_embedding_params",
) -> list[str]:
    """The columns of a law's sizes, as `analysis.fit.fit_law` takes them."""
    from analysis.laws import build_law

    roles = {"x": x, "N": x, "D": data, "L": length, "V": embeddings, "K": epochs, "X": "excess"}
    return [roles[variable] for variable in build_law(law).variables]


def refuse_law_of_metric(law: str) -> None:
    """Refuse a law of another metric, for a verb that needs sizes, known before a run is trained.

    Raises:
        UserError: it is one.
    """
    from analysis.laws import build_law

    if build_law(law).of_metric:
        raise UserError(
            f"--law {law}: its x is a metric, not a size that can be chosen; use it with scaling fit"
        )


def direction_for(
    law: str, rising: bool | None, table: pd.DataFrame, x: str, y: str | None
) -> bool | None:
    """The direction that the caller gave; for a law of optima, which have none, falling.

    For a law of another metric `x`, whether `y` (or the table's first metric) rises with it in the table.
    """
    from analysis.laws import build_law
    from analysis.table import falls_with, require_columns

    form = build_law(law)
    if form.of_metric:
        (metric, *_) = metrics_of(table, [y] if y else None)
        require_columns(table, [x, metric])
        return not falls_with(table, metric, [x])
    return False if form.in_logs else rising


def rows_of_law(
    table: pd.DataFrame,
    sizes: Sequence[str],
    y: str | None,
    *,
    rising: bool | None = None,
    best_of: str | None = None,
) -> FitRows:
    """As `rows_to_fit`, for one law of one metric (`y`, or the table's first); the rows are of one variant.

    Raises:
        UserError: as `rows_to_fit` and `one_variant`.
    """
    metrics = metrics_of(table, [y] if y else None)[:1]
    rows = rows_to_fit(table, sizes, metrics, rising=rising, best_of=best_of)
    return replace(rows, table=one_variant(rows.table, *[*sizes, *sizes][:2]))


def _rises(
    table: pd.DataFrame, metric: str, sizes: Sequence[str], rising: bool | None, alone: bool
) -> bool:
    from analysis.table import direction, falls_with, source_of

    named = direction(metric)
    if rising is not None and (alone or named is None):
        return rising
    if named is None and not falls_with(table, metric, sizes):
        raise UserError(
            f"{source_of(table)}: column {metric} does not fall with {' and '.join(sizes)}, and its name does not say "
            "whether larger is better; add --rising, or --falling; for what is best at each size (a model size, a batch, a "
            f"rate): scaling fit --law log-linear{'-joint' * (len(sizes) > 1)}"
        )
    return named is True


def _bias_note(settings: list[str], metric: str, fewest: int, most: int, rising: bool) -> str:
    """The remark that the best of several noisy values is better than the best setting is."""
    names = ", ".join(settings)
    if most == 1:
        return f"--best-of: every cell has one setting of {names} only"
    count = f"{fewest} to {most}" if fewest < most else str(most)
    # The expected extreme of k normal values (Blom 1958) is the bias if all settings are equally good.
    extreme = NormalDist().inv_cdf((most - 0.375) / (most + 0.25))
    return (
        f"each cell is the best of {count} settings of {names} by {metric}: the {'largest' if rising else 'smallest'} of noisy "
        f"values is too {'high' if rising else 'low'}, by up to about {extreme:.2g} sd of a setting's noise"
    )


def one_variant(rows: pd.DataFrame, x: str = "n_params", data: str = "n_samples") -> pd.DataFrame:
    """The rows, if one law of the size `x` may describe them all.

    A foreign table gets a warning instead of an error, as only its owner knows which runs belong together.

    Raises:
        UserError: there is no column `x`, our runs differ in more than sizes and seed, or a run stands twice.
    """
    from analysis.table import (
        SETTINGS,
        check_runs,
        describe_differences,
        largest_variant,
        split_variants,
    )

    if x not in rows.columns:  # before the error on variants, which would hide it
        raise missing_size(rows, x, "--x")
    variants = split_variants(rows, x)
    if len(variants) > 1:
        text = f"the runs differ in more than sizes: {describe_differences(rows, x)}"
        largest = largest_variant(rows, x)
        choice = " ".join(f"--where {shlex.quote(f'{c}={v}')}" for c, v in largest.items())
        if set(largest) <= SETTINGS:
            choice += f", or take the best of each cell: --best-of {','.join(largest)}"
        # Seeds of a foreign table may repeat from one recipe to the next, so they are not checked.
        if "signature" not in rows.columns:
            logger.warning("%s; fitted together, choose e.g. %s", text, choice)
            return rows
        raise UserError(f"{text}; choose one variant of {len(variants)}, e.g. {choice}")
    check_runs(rows, x, data)
    return rows


def metrics_of(rows: pd.DataFrame, wanted: list[str] | None = None) -> list[str]:
    """The metrics to fit: those wanted, or the table's logloss and AUC.

    Raises:
        UserError: the table lacks a wanted column, or none is wanted and it has neither logloss nor AUC.
    """
    from analysis.table import RUN_COLUMNS, TEACHER_COLUMNS, default_metrics, header_of
    from scaling.metrics import is_stderr

    for name in wanted or ():
        if name not in rows.columns:
            others = {str(c) for c in rows.columns} - {*RUN_COLUMNS, *TEACHER_COLUMNS}
            own = (c for c in others if not c.startswith(("model.", "teacher_")))
            metrics = [c for c in own if not is_stderr(c)]
            raise UserError(
                f"{header_of(rows)}: --y {name}: no column {name}{choices(name, metrics)}"
            )
    metrics = wanted or default_metrics(rows)
    if not metrics:
        raise missing_metric(rows)
    for name in () if wanted else metrics:
        _warn_of_better(rows, name)
    return metrics


def _warn_of_better(rows: pd.DataFrame, metric: str) -> None:
    """Warn if a metric is taken because the one without label noise is empty in some rows."""
    from analysis.table import first_few, place_of

    soft = f"soft_{metric}"
    if soft not in rows.columns or not rows[soft].notna().any():
        return
    empty = rows.index[rows[soft].isna()]
    places = first_few((place_of(rows, row) for row in empty), _SHOWN)
    logger.warning(
        "%s is empty in %d of %d rows (%s), so %s is taken; --y %s leaves these rows out",
        *(soft, len(empty), len(rows), places, metric, soft),
    )
