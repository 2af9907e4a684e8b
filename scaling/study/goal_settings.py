"""`[goal]` of a study: the quantity to measure, how precisely, and what that may cost (`scaling pursue`)."""

from dataclasses import dataclass, field
from typing import Literal

from scaling.strict_values import require_positive

__all__ = ["GoalConfig"]


@dataclass(frozen=True)
class GoalConfig:
    """`[goal]`: either a parameter of the law or the metric at a size, and a budget in one of two units.

    Attributes:
        width: of the 95 % interval that is wanted.
        quantity: a parameter of the law, e.g. "alpha". Default: none; `at` says what is wanted.
        at: model size (a grade or a number of parameters) and data size of the metric that is wanted. Default: none; see `quantity`.
        metric: column that the law is fitted to. Default: `soft_logloss` if the runs have it, else `logloss`.
        rising: whether larger values of the metric are better. Default: by its name.
        core_hours: budget in hours of one core, or of one GPU for grades that are trained on GPUs. Default: none; `flops` is the
            budget.
        flops: budget in training FLOPs. Default: none; see `core_hours`.
        law: a law of model size and data size.
        fixed: parameters that are held, e.g. E at a known Bayes loss.
        n_seeds: most seeds of a cell. Default: as many as the grid has; more than that adds seeds to the grid.
    """

    width: float
    quantity: str | None = None
    at: tuple[int | str, int] | None = None
    metric: str | None = None
    rising: bool | None = None
    core_hours: float | None = None
    flops: float | None = None
    law: Literal["additive", "tied", "multiplicative", "kaplan", "interaction", "bottleneck"] = (
        "additive"
    )
    fixed: dict[str, float] = field(default_factory=dict)
    n_seeds: int | None = None

    def __post_init__(self) -> None:
        """Check that there is one quantity and one budget, and that all numbers are positive."""
        require_positive(self, "width", "core_hours", "flops", "n_seeds")
        if (self.quantity is None) == (self.at is None):
            raise ValueError(
                'expected one quantity: quantity = "alpha", or at = ["SUAN-3", 262144]'
            )
        if (self.core_hours is None) == (self.flops is None):
            raise ValueError("expected one budget: core_hours or flops")
        if self.quantity in self.fixed:
            raise ValueError(f"quantity {self.quantity} is fixed, so it has no interval")
        if self.at is not None:
            for size in self.at:
                if not isinstance(size, str) and size < 1:
                    raise ValueError(f"at: {size} is not a positive size")

    @property
    def budget(self) -> float:
        """The budget in its unit."""
        return self.core_hours if self.core_hours is not None else self.flops or 0.0

    @property
    def unit(self) -> Literal["core-hours", "FLOPs"]:
        """The unit of the budget."""
        return "FLOPs" if self.core_hours is None else "core-hours"
