"""What a multiple of each size buys, from the largest run and from the best split of its cost."""

from dataclasses import dataclass

import numpy as np

from analysis.budget import Cost, Gain, check_terms, frontier, gain_of
from analysis.fit import LawFit
from analysis.table import size_label, size_of
from scaling.errors import UserError
from scaling.notebook_html import notebook_table

__all__ = ["GainsFrom", "gains"]


# The size that a ratio belongs to: more epochs are more samples seen, of the same data.
_PARTNERS = {"K": "D", "X": "N"}


@dataclass(frozen=True)
class GainsFrom:
    """What more of each size buys from one place.

    Attributes:
        place: "the largest run", or "the best split of its cost".
        sizes: in the order of the law's variables.
        metric: of the law at these sizes.
        gains: one for each size, and one for the cost if the law can split it.
    """

    place: str
    sizes: tuple[float, ...]
    metric: float
    gains: tuple[Gain, ...]

    def _repr_html_(self) -> str:
        sizes = ", ".join(size_label(size) for size in self.sizes)
        rows = []
        for gain in self.gains:
            value, low, high = gain.improvement
            rows.append((gain.what, f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"))
        caption = f"What more buys, from {self.place} ({sizes}): metric {self.metric:.4f}"
        return notebook_table(caption, ["more of", "improvement"], rows)


def gains(fit: LawFit, cost: Cost | None = None, factor: float = 10.0) -> tuple[GainsFrom, ...]:
    """What `factor` times each size of a law buys, with intervals (delta method, `LawFit.gain`).

    The largest run is the most expensive cell; without a cost, that with the largest product of sizes. A size of a
    law with ratios grows at equal ratios, e.g. new data; a ratio grows together with its size, e.g. more epochs over
    the same data.

    Args:
        fit: of any law.
        cost: of a run, for a law of N and D; then the cost is one more size, and the second place is the best split
            of the largest run's cost.
        factor: above 1.

    Returns:
        The largest run; then the best split of its cost, if there is a cost.

    Raises:
        UserError: there is no curve, a term of the law vanished, the factor is no number above 1, or the law has no
            best split of the cost.
    """
    if not fit.has_curve:
        raise UserError(f"no law to tell a gain by: {fit.message}")
    if not 1 < factor < np.inf:
        raise UserError(f"the factor is {factor:g}, expected a finite number above 1")
    check_terms(fit, "gain from a size")
    sizes = fit.cell_sizes
    axes = [i for i, v in enumerate(fit.law.variables) if v not in fit.law.ratios]
    worth = cost(sizes[:, 0], sizes[:, 1]) if cost else np.prod(sizes[:, axes], axis=1)
    largest = tuple(float(size) for size in sizes[int(np.argmax(worth))])
    if cost is None:
        return (_gains_from(fit, "the largest run", largest, factor),)
    budget = float(cost(*largest))
    here, there = (
        (point.n_params[0], point.n_samples[0])
        for point in frontier(fit, cost, [budget, factor * budget])
    )
    last = f"{factor:g} x {cost.unit}, split best"
    return (
        _gains_from(fit, "the largest run", largest, factor, (last, there)),
        _gains_from(fit, "the best split of its cost", here, factor, (last, there)),
    )


def _gains_from(
    fit: LawFit,
    place: str,
    sizes: tuple[float, ...],
    factor: float,
    *further: tuple[str, tuple[float, ...]],
) -> GainsFrom:
    found = []
    for variable in fit.law.variables:
        grown = {variable, _PARTNERS.get(variable, variable)} if fit.law.ratios else {variable}
        after = tuple(
            size * (factor if v in grown else 1.0)
            for v, size in zip(fit.law.variables, sizes, strict=True)
        )
        found.append(
            gain_of(fit, f"{factor:g} x {size_of(fit.columns[variable]).name}", sizes, after)
        )
    found += [gain_of(fit, what, sizes, after) for what, after in further]
    return GainsFrom(place, sizes, float(fit.predict(*sizes)), tuple(found))
