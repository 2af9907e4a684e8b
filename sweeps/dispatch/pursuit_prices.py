"""What the cells of a pursuit have cost, and what those that are not trained yet would cost, in the goal's unit."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from models.kinds import size_of
from scaling.documents import read_json
from scaling.errors import UserError
from scaling.records import PursuitRound, RunStore
from scaling.strict_values import from_document
from scaling.study import GoalConfig, RunConfig, group_runs, trained_samples
from sweeps.planning import Plan, PlannedCell

__all__ = ["Prices"]


# A cell that was begun and lost still costs at least this share of its estimate.
_LEAST_SHARE = 0.1
# A machine that others use is slower than the estimate: core-hours are reserved for that, so that cells in flight do
# not exceed the budget.
_RESERVE = 1.25


@dataclass(frozen=True)
class Prices:
    """Prices of the cells of a plan.

    Attributes:
        plan: the cells and their estimates.
        goal: with the budget's unit.
        factor: by how much cells have cost more than estimated in the rounds so far, at least 1.
        off_grid: what the rounds have paid for cells that the grid no longer has.
    """

    plan: Plan
    goal: GoalConfig
    factor: float = 1.0
    off_grid: float = 0.0

    @classmethod
    def learned(
        cls, plan: Plan, goal: GoalConfig, rounds: Sequence[PursuitRound], runs: RunStore
    ) -> "Prices":
        """Prices that the finished rounds have corrected.

        Raises:
            UserError: the record of a run that the grid no longer has is damaged.
        """
        plain = cls(plan, goal)
        by_signature = {cell.config.signature: cell for cell in plan.cells}
        paid = told = 0.0
        for one in rounds:
            cells = [by_signature[name] for name in one.cells if name in by_signature]
            if cells and len(cells) == len(one.cells) and all(c.standing == "done" for c in cells):
                paid += sum(map(plain.paid, cells))
                told += one.cost
        factor = max(1.0, paid / told) if told > 0 else 1.0
        trained = {name for one in rounds for name in one.cells}
        gone = sorted(trained.intersection(plan.removed))
        return cls(plan, goal, factor, _paid_off_grid(plan, goal, gone, runs))

    @property
    def spent(self) -> float:
        """The cost of all cells so far; cells in flight count in full, cells off the grid as far as they were trained."""
        return self.off_grid + sum(map(self.paid, self.plan.cells))

    def paid(self, cell: PlannedCell) -> float:
        """The cost of a cell so far, with its estimate if it is in flight."""
        in_flight = cell.standing in ("running", "queued")
        if self.goal.unit == "FLOPs":
            begun = in_flight or cell.standing == "done" or cell.spent_seconds > 0
            return float(self._flops(cell)) if begun else 0.0
        spent = self._spent_hours(cell)
        return max(spent, self._hours(cell)) if in_flight else spent

    def price(self, cells: Sequence[PlannedCell]) -> float:
        """What it still costs to train cells that are not in flight."""
        if self.goal.unit == "FLOPs":  # a cell that was begun is paid
            return float(sum(self._flops(cell) for cell in cells if not self.paid(cell)))
        return sum(
            max(self._hours(cell) - self._spent_hours(cell), _LEAST_SHARE * self._hours(cell))
            for cell in cells
        )

    def least_price(self, cells: Sequence[PlannedCell]) -> float:
        """The price without the reserve for a slow machine."""
        return self.price(cells) / (1.0 if self.goal.unit == "FLOPs" else _RESERVE)

    def trainable(self) -> list[tuple[PlannedCell, ...]]:
        """The groups of cells that one process trains, without those that are done, in flight or failed for good."""
        return self.plan.units([cell for cell in self.plan.cells if cell.goes_on])

    def affordable(self, cells: Sequence[PlannedCell]) -> list[PlannedCell]:
        """The cells among `cells` that the rest of the budget buys, the cheapest groups first."""
        chosen: list[PlannedCell] = []
        left = self.goal.budget - self.spent
        for unit in sorted(self.plan.units(cells), key=self.price):
            if (price := self.price(unit)) <= left:
                chosen += unit
                left -= price
        return chosen

    def _hours(self, cell: PlannedCell) -> float:
        return _RESERVE * self.factor * self.plan.gpu_seconds(cell) / 3600

    def _spent_hours(self, cell: PlannedCell) -> float:
        return cell.spent_seconds * self.plan.study.n_devices(cell.config.grade_name) / 3600

    @staticmethod
    def _flops(cell: PlannedCell) -> int:
        return cell.size.training_flops(cell.n_trained) + cell.teacher_flops


def _paid_off_grid(plan: Plan, goal: GoalConfig, names: Iterable[str], runs: RunStore) -> float:
    """What runs that are no longer in the grid have cost."""
    configs = [config for name in names if (config := _config(name, runs)) is not None]
    if goal.unit == "core-hours":
        hours = (
            plan.removed_seconds.get(one.signature, 0.0) * plan.study.n_devices(one.grade_name)
            for one in configs
        )
        return sum(hours) / 3600
    flops = 0
    for group in group_runs(configs, plan.study.train.share_prefix).values():
        size = size_of(group[0].grade, group[0].model, plan.data.schema)
        flops += size.training_flops(trained_samples(group))
    return float(flops)


def _config(name: str, runs: RunStore) -> RunConfig | None:
    """The configuration of a run that was begun; None if nothing tells it."""
    if runs.has(name):
        return runs.read(name).config
    path = runs.folder(name) / "config.json"
    with suppress(OSError, ValueError, UserError):
        return from_document(RunConfig, read_json(path), str(path))
    return None
