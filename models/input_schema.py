"""The features of an event store, as far as a model needs them; free of torch."""

from collections.abc import Mapping, Sequence
from typing import Protocol

__all__ = ["CategoricalFeature", "InputSchema"]


class CategoricalFeature(Protocol):
    """A column of dense ids; features that share a vocabulary share its embedding table."""

    @property
    def name(self) -> str:
        """The column's name."""

    @property
    def vocabulary(self) -> str:
        """The id space's name."""


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
