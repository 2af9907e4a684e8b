"""The features of an event store, as far as a model needs them; free of torch."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

__all__ = ["GROUPS", "CategoricalFeature", "InputSchema", "is_plain", "n_columns", "n_ids"]


# Of features; a batch has one array of ids for each.
GROUPS: tuple[Literal["behaviour", "candidate", "context", "profile"], ...] = (
    "behaviour",
    "candidate",
    "context",
    "profile",
)


class CategoricalFeature(Protocol):
    """A column of dense ids; features that share a vocabulary share its embedding table."""

    @property
    def name(self) -> str:
        """The column's name."""

    @property
    def vocabulary(self) -> str:
        """The id space's name."""

    @property
    def max_values(self) -> int:
        """The most ids that a cell holds; 1: each cell is one id."""

    @property
    def pooling(self) -> Literal["mean", "sum"]:
        """What a cell's embedding is of those of its ids."""

    @property
    def weighted(self) -> bool:
        """Whether each id has a weight, by which its embedding is multiplied; a mean is divided by their sum."""


class InputSchema(Protocol):
    """The features of an event store, as far as a model needs them (`scaling.store.Schema`)."""

    @property
    def behaviour(self) -> Sequence[CategoricalFeature]:
        """Features of each event in the history; their number is n1."""

    @property
    def candidate(self) -> Sequence[CategoricalFeature]:
        """Features of the item that is scored."""

    @property
    def context(self) -> Sequence[CategoricalFeature]:
        """Features of the request."""

    @property
    def profile(self) -> Sequence[CategoricalFeature]:
        """Features of the user; their number is n2."""

    @property
    def numeric(self) -> Sequence[str]:
        """Float features of the impression."""

    @property
    def vocabularies(self) -> Mapping[str, int]:
        """Ids per vocabulary; 0 is padding and 1 is unknown."""


def is_plain(features: Sequence[CategoricalFeature]) -> bool:
    """Whether each cell of these features is one id without a weight."""
    return all(f.max_values == 1 and not f.weighted for f in features)


def n_ids(features: Sequence[CategoricalFeature]) -> int:
    """Ids that a row of a batch holds for these features."""
    return sum(f.max_values for f in features)


def n_columns(features: Sequence[CategoricalFeature]) -> int:
    """Columns of a batch for these features: those of the ids, and behind them one for each weight."""
    return n_ids(features) + sum(f.max_values for f in features if f.weighted)
