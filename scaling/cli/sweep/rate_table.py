"""The result of `scaling tune` as a table, as text below it, and as one JSON document."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from scaling.cli.output import counted
from scaling.cli.tables import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.study_results import BestRate, RateFit
    from scaling.study import RateLaw
    from sweeps.planning import Corner

__all__ = ["Scanned", "Tuned"]


_COLUMNS = {
    "grade": "grade",
    "token_width": "width",
    "n_samples": "n_samples",
    "best": "best rate",
    "low": "low",
    "high": "high",
    "law": "law",
    "half": "half",
    "once": "once",
    "twice": "twice",
    "so_far": "rule so far",
}
_COSTS = ("half", "once", "twice", "so_far")


@dataclass(frozen=True)
class Scanned:
    """The state of a scan.

    Attributes:
        losses: loss of each run by corner and multiple of the recipe's rate, inf if it diverged.
        n_runs: number of runs so far.
        n_missing: how many of them are not trained yet; `losses` is then not complete.
        seconds: time that the runs took, times their GPUs if they have any.
        metric: the loss that was compared.
    """

    losses: Mapping[Corner, Mapping[float, float]]
    n_runs: int
    n_missing: int
    seconds: float
    metric: str


@dataclass(frozen=True)
class Tuned:
    """A fitted rate law with the scan behind it.

    Attributes:
        so_far: the law in the study file; None: the recipe.
        study_seconds: estimated seconds of the whole study.
        reach: largest width and data size for which the study's grid sets a rate.
    """

    scanned: Scanned
    best: Sequence[BestRate]
    fit: RateFit
    so_far: RateLaw | None
    study_seconds: float
    reach: tuple[int, int]

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """One row for each corner; costs are losses above the best rate's, inf where runs diverge."""
        rows = []
        corners = zip(self.scanned.losses, self.best, self.fit.rates, strict=True)
        for corner, best, law in corners:
            rows.append(
                {
                    "grade": corner.grade_name,
                    "token_width": corner.token_width,
                    "n_samples": corner.n_samples,
                    "best": best.rate,
                    "low": best.low,
                    "high": best.high,
                    "at_edge": best.at_edge,
                    "law": law,
                    "half": best.cost(law / 2),
                    "once": best.cost(law),
                    "twice": best.cost(2 * law),
                    "so_far": best.cost(self._rate_so_far(corner)),
                    "rates": list(best.scanned.rates),
                    "losses": list(best.scanned.losses),
                }
            )
        return rows

    def _rate_so_far(self, corner: Corner) -> float:
        if self.so_far is None:
            return corner.rule
        return self.so_far.rate(corner.token_width, corner.rate_samples, corner.rule)

    @property
    def largest_cost(self) -> float:
        """The law's largest cost at a corner."""
        return max(float(row["once"]) for row in self.rows)

    @property
    def largest_cost_so_far(self) -> float:
        """The largest cost of the rule so far."""
        return max(float(row["so_far"]) for row in self.rows)

    @property
    def why_not(self) -> str:
        """Why the law is not worth writing; empty if it is."""
        from analysis.study_results import why_keep

        if self.fit.law == self.so_far:
            return "it has this law already"
        so_far = [self._rate_so_far(corner) for corner in self.scanned.losses]
        return why_keep(self.best, self.fit, so_far)

    def text(self) -> list[str | Table]:
        """Return the table and the lines below it."""
        law = self.fit.law
        table = Table(
            list(_COLUMNS.values()),
            [[_shown(key, row[key]) for key in _COLUMNS] for row in self.rows],
        )
        lines: list[str | Table] = [
            table,
            "",
            f"low, high: 95 % interval of the best rate; half, once, twice, rule so far: {self.scanned.metric} above the "
            "best rate's at these multiples of the law's rate, and at the rate of the rule so far",
            f"law: rate = {law.factor:g} x the recipe's (width / {law.token_width})^{law.width_exponent:g} "
            f"(n_samples / {law.n_samples})^{law.samples_exponent:g}",
        ]
        lines += [self._interval(name) for name in ("factor", "width_exponent", "samples_exponent")]
        lines.append(
            f"largest cost at a corner: {self.largest_cost:.4f} with the law, {self.largest_cost_so_far:.4f} with the rule so far"
        )
        edges = [row for row in self.rows if row["at_edge"]]
        lines += [
            f"warning: {row['grade']} at {row['n_samples']:,}: the best rate is at the edge of the scan; "
            "name more multiples with --rates"
            for row in edges
        ]
        lines += self._beyond()
        minutes, share = self.scanned.seconds / 60, self.scanned.seconds / self.study_seconds
        lines.append(
            f"price: {counted(self.scanned.n_runs, 'run')}, {minutes:.1f} core-minutes, {share:.1%} of the study"
        )
        return lines

    def _interval(self, name: str) -> str:
        fit = self.fit
        text = f"{name}: {getattr(fit.law, name):g}"
        if name in fit.low:
            text += f", fitted interval [{fit.low[name]:.2f}, {fit.high[name]:.2f}]"
        return text + (f"; as in the recipe: {fit.kept[name]}" if name in fit.kept else "")

    def _beyond(self) -> list[str]:
        """Say how far the grid goes beyond the scan."""
        scanned = (
            max(corner.token_width for corner in self.scanned.losses),
            max(corner.rate_samples for corner in self.scanned.losses),
        )
        parts = [
            f"{what} {largest:,} ({largest / ours:.3g} times the scan's)"
            for what, largest, ours in zip(("width", "n_samples"), self.reach, scanned, strict=True)
            if largest > ours
        ]
        return [f"beyond the scan, the grid goes on to {' and '.join(parts)}"] if parts else []

    def document(self, *, change: str, written: bool) -> dict[str, Any]:
        """Return everything with unrounded numbers."""
        return {
            "corners": self.rows,
            "metric": self.scanned.metric,
            "law": asdict(self.fit.law),
            "low": self.fit.low,
            "high": self.fit.high,
            "kept": self.fit.kept,
            "largest_cost": self.largest_cost,
            "largest_cost_so_far": self.largest_cost_so_far,
            "n_runs": self.scanned.n_runs,
            "core_minutes": self.scanned.seconds / 60,
            "share_of_study": self.scanned.seconds / self.study_seconds,
            "change": change,
            "written": written,
        }


def _shown(key: str, value: object) -> object:
    if key not in _COSTS or not isinstance(value, float):
        return value
    return round(value, 4) if math.isfinite(value) else "diverges"
