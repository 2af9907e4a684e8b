"""All laws by name."""

import math

from analysis.laws.base import Law
from analysis.laws.log_linear import JointLogLinear, LogLinear
from analysis.laws.one_axis import Broken, Exponential, Power, Saturating, Shifted, Sigmoid
from analysis.laws.three_axes import DataConstrained, EmbeddingSize, Repeated, SequenceLength
from analysis.laws.two_axes import (
    Additive,
    Bottleneck,
    Interaction,
    Kaplan,
    Multiplicative,
    TiedAdditive,
)
from scaling.errors import UserError, nearest

__all__ = ["LAWS", "build_law"]


LAWS: dict[str, type[Law]] = {
    law.name: law
    for law in (
        Power,
        Saturating,
        Shifted,
        Broken,
        Exponential,
        Sigmoid,
        Additive,
        TiedAdditive,
        Multiplicative,
        Kaplan,
        Interaction,
        Bottleneck,
        SequenceLength,
        EmbeddingSize,
        Repeated,
        DataConstrained,
        LogLinear,
        JointLogLinear,
    )
}


def build_law(name: str, *, rising: bool = False, limit: float | None = None) -> Law:
    """Build a law by name.

    Raises:
        UserError: there is no such law, or the limit is not finite.
    """
    if limit is not None and not math.isfinite(limit):
        raise UserError(f"limit is {limit:g}, expected a finite number")
    if name not in LAWS:
        raise UserError(f"there is no law {name}{nearest(name, LAWS)}")
    return LAWS[name](rising=rising, limit=limit)
