"""The uncertainty of a fit as values: its parts by source, and what they add up to along directions of theta."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.uncertainty.noise import Noise
from scaling.arrays import FloatArray

__all__ = ["CURVATURE_P", "Effect", "Part", "Variance", "combined"]


# Below this p-value the law leaves curvature: one in a hundred laws of the right form.
CURVATURE_P = 0.01


@dataclass(frozen=True)
class Part:
    """One source's covariance (p, p) of theta, and the degrees of freedom of its mean square."""

    source: str
    covariance: FloatArray
    dof: float

    def scaled(self, factor: float) -> "Part":
        """The same with the covariance multiplied by `factor`."""
        return replace(self, covariance=self.covariance * factor)


@dataclass(frozen=True)
class Effect:
    """A deviation that cells share: the variable whose equal sizes share it, the p-value, the standard deviation."""

    variable: str
    p: float
    sd: float


@dataclass(frozen=True)
class Variance:
    """The uncertainty of a fit, by source.

    Attributes:
        noise: of one run.
        parts: of theta's covariance around the points' origin, without the test part's error.
        test: the part of the test part's sampling error, or None if it is not known.
        naive: (p, p) covariance if the errors of all runs were independent, as the plain profile assumes.
        effects: shared shifts found.
        curvature_p: p-value of curvature that the law leaves; NaN if the seeds judge the law, or it cannot be tested.
        shared: those of `parts` that resampling cells (or runs) does not show.
    """

    noise: Noise
    parts: tuple[Part, ...]
    test: Part | None
    naive: FloatArray
    effects: tuple[Effect, ...] = ()
    curvature_p: float = float("nan")
    shared: tuple[Part, ...] = ()

    @property
    def curved(self) -> bool:
        """Whether the law leaves curvature."""
        return self.curvature_p < CURVATURE_P

    @property
    def covariance(self) -> FloatArray:
        """Covariance (p, p) of theta for predictions on the same test part."""
        return np.asarray(sum(part.covariance for part in self.parts))

    def scaled(self, factor: float) -> "Variance":
        """The same with every part's covariance multiplied by `factor`, the test part's excepted."""
        return replace(
            self,
            parts=tuple(part.scaled(factor) for part in self.parts),
            shared=tuple(part.scaled(factor) for part in self.shared),
            naive=self.naive * factor,
        )

    def spread(self, turn: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Variances and degrees of freedom (p,) of turn @ theta, the test part's error included."""
        every = (*self.parts, self.test) if self.test else self.parts
        return combined(every, turn)

    def inflation(self, turn: FloatArray) -> tuple[FloatArray, FloatArray]:
        """How many times wider than naive each interval of turn @ theta is, and its dof, (p,)."""
        variance, dof = self.spread(turn)
        naive = np.einsum("ip,pq,iq->i", turn, self.naive, turn)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.sqrt(variance / naive)
        return np.where(naive > 0, np.maximum(ratio, 1e-3), 1.0), dof


def combined(parts: Sequence[Part], directions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Variance along each direction (m, p) of theta, and its Satterthwaite degrees of freedom, (m,)."""
    variance, uncertain = np.zeros(len(directions)), np.zeros(len(directions))
    for part in parts:
        share = np.einsum("ip,pq,iq->i", directions, part.covariance, directions)
        variance += share
        if part.dof:
            uncertain += share**2 / part.dof
    variance = np.maximum(variance, 0.0)
    most = max((part.dof for part in parts if np.isfinite(part.dof)), default=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        dof = variance**2 / uncertain
    return variance, np.where(uncertain > 0, np.clip(dof, 1.0, 1e6), most)
