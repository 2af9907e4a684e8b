"""What columns, sizes and lists of names are called in figures and tables."""

from collections.abc import Iterable

__all__ = ["LABELS", "first_few", "size_label"]


LABELS = {
    "n_samples": "training samples $D$",
    "n_params": "non-embedding parameters $N$",
    "flops_per_sample": "forward FLOPs per sample",
    "flops": "training FLOPs $C$",
    "max_len": "history length $L$",
    "n_embedding_params": "embedding parameters",
    "teacher_n_params": "the teacher's non-embedding parameters",
    "logloss": "logloss (nats)",
    "soft_logloss": "logloss vs true probabilities (nats)",
    "auc": "AUC",
    "soft_auc": "AUC vs true probabilities",
}


def first_few(names: Iterable[str], most: int) -> str:
    """The first names, for people, and how many more there are."""
    known = list(names)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return "; ".join(known[:most]) + more


def size_label(value: float) -> str:
    """A size in two or three digits: 4.1k, 65.5k, 131k, 2B."""
    for unit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        scaled = value / unit
        if scaled >= 0.9995:
            return (
                f"{scaled:.{2 if scaled < 9.95 else 3}g}{suffix}"
                if scaled < 999.5
                else (f"{scaled:.0f}{suffix}")
            )
    return f"{value:.3g}"
