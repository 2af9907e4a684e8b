"""Laws of N, D and a third variable: sequence length, table size, or how often the data are used."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.laws.base import Shape
from analysis.laws.power_terms import EffectiveSizes, SumOfPowers, Term
from scaling.arrays import FloatArray

__all__ = ["DataConstrained", "EmbeddingSize", "Repeated", "SequenceLength"]


@dataclass(frozen=True)
class SequenceLength(SumOfPowers):
    """The additive law with a third term for the length L of the behaviour sequence."""

    name = "length"
    terms = (Term("A", {"N": "alpha"}), Term("B", {"D": "beta"}), Term("F", {"L": "gamma"}))


@dataclass(frozen=True)
class EmbeddingSize(SumOfPowers):
    """The additive law with a third term for the size V of the embedding tables (Tao et al. 2024, eq. 6).

    N then counts the dense parameters only. V may be parameters, rows, or a hash size: only its exponent matters.
    """

    name = "embeddings"
    terms = (Term("A", {"N": "alpha"}), Term("B", {"D": "beta"}), Term("F", {"V": "gamma"}))


def _worth(log_repeats: FloatArray, log_decay: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Log of how many first uses exp(log_repeats) uses are worth, and its derivative by log R.

    Each further use is worth exp(-1 / R) times the one before (Muennighoff et al. 2023, eq. 5), so
    u uses are worth 1 + R (1 - exp(-(u - 1) / R)) first uses.
    """
    decay = np.exp(log_decay)
    spent = np.expm1(log_repeats) / decay
    left = np.exp(-spent)
    worth = 1 + decay * (1 - left)
    return np.log(worth), decay * (1 - left * (1 + spent)) / worth


_DECAY: dict[str, Any] = {"lower": 1e-3, "upper": 1e6, "first": 0.5, "last": 200.0, "log": True}


@dataclass(frozen=True)
class Repeated(SumOfPowers):
    """Data used for K epochs: E +- A N^-alpha +- B D'^-beta (Muennighoff et al. 2023, eq. 5).

    D counts every use of a sample. The effective data D' = D / K (1 + R_D (1 - exp(-(K - 1) / R_D)))
    count repeated uses for less.
    """

    name = "repeated"
    formula = "E ± A N^-alpha ± B [D/K (1 + R_D (1 - e^((1 - K) / R_D)))]^-beta"
    ratios = ("K",)
    terms = (Term("A", {"N": "alpha"}), Term("B", {"D": "beta"}))
    shapes = (Shape("alpha"), Shape("beta"), Shape("R_D", **_DECAY))

    def effective_sizes(self, logs: Sequence[FloatArray], shape: FloatArray) -> EffectiveSizes:
        """The sizes N and D'."""
        worth, slope = _worth(logs[2], shape[:, 2, None])
        return [logs[0], logs[1] - logs[2] + worth], {(1, 2): slope}


@dataclass(frozen=True)
class DataConstrained(SumOfPowers):
    """Repeated data and models larger than the unique data support (Muennighoff et al. 2023, eq. 6).

    X >= 1 is N divided by the model size that the unique samples support. Parameters beyond that size
    lose value with R_N, as repeated data do with R_D.
    """

    name = "data-constrained"
    formula = (
        "E ± A [N/X (1 + R_N (1 - e^((1 - X) / R_N)))]^-alpha"
        " ± B [D/K (1 + R_D (1 - e^((1 - K) / R_D)))]^-beta"
    )
    ratios = ("K", "X")
    terms = (Term("A", {"N": "alpha"}), Term("B", {"D": "beta"}))
    shapes = (Shape("alpha"), Shape("beta"), Shape("R_D", **_DECAY), Shape("R_N", **_DECAY))

    def effective_sizes(self, logs: Sequence[FloatArray], shape: FloatArray) -> EffectiveSizes:
        """The effective model size and the effective data."""
        data_worth, data_slope = _worth(logs[2], shape[:, 2, None])
        size_worth, size_slope = _worth(logs[3], shape[:, 3, None])
        return (
            [logs[0] - logs[3] + size_worth, logs[1] - logs[2] + data_worth],
            {(0, 3): size_slope, (1, 2): data_slope},
        )
