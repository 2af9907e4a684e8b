"""The pairs of runs of a race: the same data, grade, data size and seed; and those that are not whole."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.table import require_columns, value_text
from scaling.errors import UserError

__all__ = ["LostPair", "Paired", "pair_runs"]


# The columns that are equal in a pair; a table without the first has runs on one data set.
_FINGERPRINT, _KEYS = "data_fingerprint", ("grade", "n_samples", "seed")


@dataclass(frozen=True)
class LostPair:
    """A pair of which a run is absent or cannot be used.

    Attributes:
        run: what both runs have in common, e.g. `SUAN-1 D=16384 s0`; `?` for what is not known.
        why: which run, and what it lacks.
    """

    run: str
    why: str

    def __str__(self) -> str:
        """The pair, with the reason in brackets."""
        return f"{self.run} ({self.why})"


@dataclass(frozen=True)
class Paired:
    """The pairs of a variant and the reference.

    Attributes:
        runs: one row per pair: grade, n_samples, seed and difference, the variant's metric minus the reference's.
        lost: the others.
    """

    runs: pd.DataFrame
    lost: tuple[LostPair, ...]


def pair_runs(
    ours: pd.DataFrame, theirs: pd.DataFrame, metric: str, name: str, reference: str
) -> Paired:
    """Pair the runs of a variant with those of the reference.

    Args:
        ours: the variant's runs.
        theirs: the reference's.
        metric: column that is compared.
        name: of the variant.
        reference: its name.

    Raises:
        UserError: a column is missing, or there is no pair.
    """
    if any(key not in table.columns for key in ("seed", "grade") for table in (ours, theirs)):
        raise UserError("a race needs the columns grade and seed: they say which runs are a pair")
    require_columns(ours, ["n_samples", metric])
    keys = [*_KEYS]
    if _FINGERPRINT in ours.columns and _FINGERPRINT in theirs.columns:
        keys.append(_FINGERPRINT)
    named, lost = [], []
    for table, owner in ((ours, name), (theirs, reference)):
        has_name = table[[*_KEYS]].notna().all(axis=1)
        named.append(table.loc[has_name, [*keys, metric]])
        for _, row in table[~has_name].iterrows():
            empty = ", ".join(key for key in _KEYS if pd.isna(row[key]))
            lost.append(LostPair(_run(row), f"{empty} of a run of {owner} is empty"))
    both = named[0].merge(named[1], on=keys, how="outer", suffixes=("", "_base"), indicator="_side")
    base = f"{metric}_base"
    whole = np.isfinite(both[metric].astype(float)) & np.isfinite(both[base].astype(float))
    for _, row in both[~whole].iterrows():
        lost.append(LostPair(_run(row), _why(row, metric, name, reference)))
    runs = both[whole]
    if runs.empty:
        raise UserError(
            f"no run of {name} has the grade, the data size and the seed of one of {reference}"
            + (f"; {lost[0]}" if lost else "")
        )
    return Paired(runs.assign(difference=runs[metric] - runs[base]), tuple(lost))


def _why(row: "pd.Series[Any]", metric: str, name: str, reference: str) -> str:
    sides: dict[str, str] = {"left_only": reference, "right_only": name}
    if absent := sides.get(row["_side"]):
        return f"no such run of {absent}"
    owners = ((metric, name), (f"{metric}_base", reference))
    empty = [owner for column, owner in owners if not np.isfinite(row[column])]
    return f"no {metric} of {' and '.join(empty)}"


def _run(row: "pd.Series[Any]") -> str:
    grade, size, seed = ("?" if pd.isna(row[key]) else value_text(row[key]) for key in _KEYS)
    return f"{grade} D={size} s{seed}"
