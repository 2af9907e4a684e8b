"""How much of each known part of the true logit the models of a study on a generated log have learned."""

from dataclasses import dataclass

import pandas as pd

from analysis.table import Size

__all__ = ["LearnedParts", "learned_parts"]


_PREFIX = "learned_"
# of the error itself, beside the components
_MEASURES = ("excess_logloss", "rank_floor", "unexplained_excess")


@dataclass(frozen=True)
class LearnedParts:
    """Means over seeds along the two edges of the grid.

    Attributes:
        components: names of the parts of the logit.
        size: the model size; data: the data size.
        by_size: cells of the largest data size that every model size has, one row per model size: both sizes, the
            components (1: learned in full) and, where known, `excess_logloss`, `rank_floor`, `unexplained_excess`.
        by_data: the same for the largest model size, one row per data size.
    """

    components: tuple[str, ...]
    size: Size
    data: Size
    by_size: pd.DataFrame
    by_data: pd.DataFrame

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures of the error that the table has."""
        return tuple(name for name in _MEASURES if name in self.by_size.columns)


def learned_parts(table: pd.DataFrame, size: Size, data: Size) -> LearnedParts | None:
    """Collect the `learned_` columns of a runs table; None if it has none, as for real logs."""
    columns = [name for name in table.columns if str(name).startswith(_PREFIX)]
    columns = [name for name in columns if table[name].notna().any()]
    if not columns:
        return None
    names = {name: str(name).removeprefix(_PREFIX).replace("_", " ") for name in columns}
    known = [name for name in _MEASURES if name in table.columns and table[name].notna().any()]
    keys = [size.column, data.column]
    cells = table.groupby(keys, as_index=False)[[*columns, *known]].mean().rename(columns=names)
    return LearnedParts(
        components=tuple(names.values()),
        size=size,
        data=data,
        by_size=_edge(cells, keep=size.column, fix=data.column),
        by_data=_edge(cells, keep=data.column, fix=size.column),
    )


def _edge(cells: pd.DataFrame, keep: str, fix: str) -> pd.DataFrame:
    """Return the cells of the value of `fix` with the most values of `keep`, the largest such value."""
    counts: pd.Series = cells.groupby(fix)[keep].nunique()
    at = max(counts.index[counts == counts.max()])
    edge: pd.DataFrame = cells[cells[fix] == at].sort_values(keep).reset_index(drop=True)
    return edge
