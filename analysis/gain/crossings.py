"""Two laws of the budget: with which share of a budget one reaches the other, and where they cross.

The interval of a share, or of a crossing, is the set of places at which both laws do not differ significantly (Fieller
1954), so that it stays right if a limit is near and has an open end if one may never reach the other.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.fit import PairedErrors
from analysis.gain.variant_law import VariantLaw
from scaling.arrays import BoolArray, FloatArray

__all__ = ["BEYOND", "Crossing", "Ends", "Pair", "times_beyond"]


# Beyond the runs, by this factor, crossings are still searched.
BEYOND = 10.0
# Shares and ends of crossings are searched within exp(+-30) times the budget; ends in growing steps.
_SCAN = 30.0
_STEP, _GROWTH, _STEPS = 0.05, 1.2, 32
_CROSSING_STEPS, _BISECTIONS = 240, 30

# A value with the ends of its interval.
Ends = tuple[float, float, float]
# Places (m,) -> how much better the variant is there (m,), and this in half widths of its interval.
_Score = Callable[[FloatArray], tuple[FloatArray, FloatArray]]


@dataclass(frozen=True)
class Crossing:
    """A budget at which a variant is as good as the reference.

    Attributes:
        variant: its name.
        budget: with the ends of the interval in which the two do not differ significantly; 0 and infinity are open ends.
        better_above: whether the variant is better at larger budgets.
        beyond: how many times it lies outside the range that the runs of all variants cover; 1 inside.
    """

    variant: str
    budget: Ends
    better_above: bool
    beyond: float


@dataclass(frozen=True)
class Pair:
    """A reference and a variant.

    Attributes:
        reference, variant: their laws.
        paired: what the errors of both fits have in common.
        level: of the intervals.
    """

    reference: VariantLaw
    variant: VariantLaw
    paired: PairedErrors
    level: float

    def shares(self, logs: FloatArray) -> FloatArray:
        """The share of each budget (m,) and the ends of its interval, (m, 3)."""
        theirs = self.reference.at(logs)

        def score(offset: FloatArray) -> tuple[FloatArray, FloatArray]:
            return self._score(theirs, self.variant.at(logs + offset))

        offsets = np.arange(-_SCAN, _SCAN + 1.0)
        better = np.column_stack([score(np.full(len(logs), o))[0] > 0 for o in offsets])
        k = np.clip(np.argmax(better, axis=1), 1, None)
        found = _bisect(offsets[k - 1], offsets[k], lambda o: score(o)[0] > 0)
        found = np.where(better.any(axis=1), np.where(better[:, 0], -np.inf, found), np.inf)
        ends = [_until_differs(score, found, step) for step in (-_STEP, _STEP)]
        return np.exp(np.column_stack([found, *ends]))

    def crossings(self, common: tuple[float, float]) -> list[Crossing]:
        """Budgets at which both are equally good, from the smallest of the runs to ten times the largest."""

        def score(log: FloatArray) -> tuple[FloatArray, FloatArray]:
            return self._score(self.reference.at(log), self.variant.at(log))

        logs = np.linspace(np.log(common[0]), np.log(BEYOND * common[1]), _CROSSING_STEPS)
        better = score(logs)[0] > 0
        found = []
        for k in np.flatnonzero(better[1:] != better[:-1]):
            rises = bool(better[k + 1])
            at = _bisect(logs[k : k + 1], logs[k + 1 : k + 2], _is(score, rises))
            low, high = (float(np.exp(_until_differs(score, at, s))[0]) for s in (-_STEP, _STEP))
            budget = float(np.exp(at[0]))
            beyond = times_beyond(budget, common)
            found.append(Crossing(self.variant.name, (budget, low, high), rises, beyond))
        return found

    def _score(
        self, before: tuple[FloatArray, FloatArray], after: tuple[FloatArray, FloatArray]
    ) -> tuple[FloatArray, FloatArray]:
        """How much better the variant is (m,), and this in half widths of its interval; NaN (far out) counts as 0."""
        difference = self.reference.fit.law.sign * (before[0] - after[0])
        variance, dof = self.paired.difference(before[1], after[1])
        half = np.sqrt(variance) * special.stdtrit(dof, 0.5 + self.level / 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            return difference, np.nan_to_num(difference / half, nan=0.0)


def times_beyond(budget: float, common: tuple[float, float]) -> float:
    """How many times a budget lies outside the range `common`; 1 inside."""
    return max(common[0] / budget, budget / common[1], 1.0)


def _until_differs(score: _Score, start: FloatArray, step: float) -> FloatArray:
    """From each start (m,), the nearest place in the direction of `step` at which both differ significantly.

    Far from the runs they may cease to differ, as the derivatives that the variance rests on no longer say much.
    """
    low = high = np.where(np.isinf(start), np.clip(start, -_SCAN, _SCAN), start)
    apart = np.zeros(len(start), dtype=bool)
    for _ in range(_STEPS):
        low, step = np.where(apart, low, high), step * _GROWTH
        high = np.where(apart, high, high + step)
        apart |= np.abs(score(high)[1]) > 1
        if apart.all():
            break
    found = _bisect(low, high, lambda place: np.abs(score(place)[1]) > 1)
    open_end = ~apart | (np.isinf(start) & (np.sign(start) == np.sign(step)))
    return np.where(open_end, np.inf * step, found)


def _is(score: _Score, better: bool) -> Callable[[FloatArray], BoolArray]:
    return lambda place: (score(place)[0] > 0) == better


def _bisect(
    low: FloatArray, high: FloatArray, holds: Callable[[FloatArray], BoolArray]
) -> FloatArray:
    """The places (m,) between `low`, where a condition does not hold, and `high` where it begins to hold."""
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        holding = holds(middle)
        low, high = np.where(holding, low, middle), np.where(holding, middle, high)
    return np.asarray((low + high) / 2)
