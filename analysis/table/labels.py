"""Labels of columns, sizes and lists of names in figures and tables."""

from collections.abc import Iterable
from dataclasses import dataclass

from analysis.table.collect import RUN_COLUMNS, TEACHER_COLUMNS

__all__ = ["LABELS", "Size", "first_few", "size_label", "size_of", "sizes_text"]


LABELS = {
    "n_samples": "training samples $D$",
    "n_params": "non-embedding parameters $N$",
    "flops_per_sample": "forward FLOPs per sample",
    "flops": "training FLOPs $C$",
    "computed_flops": "training FLOPs computed",
    "max_len": "history length $L$",
    "n_embedding_params": "embedding parameters",
    "teacher_n_params": "the teacher's non-embedding parameters",
    "logloss": "logloss (nats)",
    "soft_logloss": "logloss vs true probabilities (nats)",
    "auc": "AUC",
    "soft_auc": "AUC vs true probabilities",
    "gauc": "AUC within users, weighted by rows",
    "uauc": "AUC within users",
    "ndcg_at_5": "NDCG@5 within requests",
    "ndcg_at_10": "NDCG@10 within requests",
    "mrr": "MRR within requests",
}


# Units of size columns.
_UNITS = {
    "n_params": "parameters",
    "n_samples": "samples",
    "n_embedding_params": "parameters",
    "teacher_n_params": "parameters",
    "flops": "FLOPs",
    "flops_per_sample": "FLOPs",
    "computed_flops": "FLOPs",
    "max_len": "behaviours",
}


# Short names of the two sizes that every run has, and their symbols.
_NAMES = {"n_params": ("parameters", "N"), "n_samples": ("samples", "D")}


@dataclass(frozen=True)
class Size:
    """A column of sizes and how figures and reports name it.

    Attributes:
        column: its name in the table.
        label: of an axis.
        unit: of its values, e.g. "samples"; empty if unknown.
        meaning: what it counts; empty if unknown.
        name: in a sentence, e.g. "samples"; the column if that does not say what the size is.
        symbol: in formulas, if it has one.
    """

    column: str
    label: str
    unit: str = ""
    meaning: str = ""
    name: str = ""
    symbol: str = ""

    @property
    def title(self) -> str:
        """The name with its symbol, e.g. for a legend."""
        return f"{self.name} ${self.symbol}$" if self.symbol else self.name


def size_of(column: str, *, foreign: bool = False) -> Size:
    """The size in a column; an unknown column keeps its own name as label.

    Args:
        column: its name.
        foreign: the table is not of our runs, so that the column's name does not say what exactly is counted.
    """
    meaning = (RUN_COLUMNS | TEACHER_COLUMNS).get(column, "")
    name, symbol = _NAMES.get(column, (column, ""))
    if foreign:
        return Size(column, f"{name} ${symbol}$" if symbol else column, "", "", name, symbol)
    label, unit = LABELS.get(column, column), _UNITS.get(column, "")
    return Size(column, label, unit, meaning, name, symbol)


def first_few(names: Iterable[str], most: int) -> str:
    """The first names and the number of the others, as text for people."""
    known = list(names)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return "; ".join(known[:most]) + more


def size_label(value: float) -> str:
    """A size with two or three digits, e.g. 4.1k, 65.5k, 131k, 2B, 1e+18."""
    if value >= 0.9995e15:
        return f"{value:.3g}"
    for unit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        scaled = value / unit
        if scaled >= 0.9995:
            return (
                f"{scaled:.{2 if scaled < 9.95 else 3}g}{suffix}"
                if scaled < 999.5
                else (f"{scaled:.0f}{suffix}")
            )
    return f"{value:.3g}"


def sizes_text(names: Iterable[str], sizes: Iterable[float]) -> str:
    """Several sizes by their names, e.g. `N = 1.9M, D = 8.4M`."""
    pairs = zip(names, sizes, strict=True)
    return ", ".join(f"{name} = {size_label(float(size))}" for name, size in pairs)
