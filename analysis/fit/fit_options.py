"""`FitOptions`: loss, weights, held parameters and intervals of a fit, as one frozen value that checks itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from scaling.errors import UserError, nearest

__all__ = ["FitOptions", "IntervalMethod", "Loss", "Residual", "Weights"]


Loss = Literal["gaussian", "huber"]
Residual = Literal["raw", "log"]
Weights = Literal["none", "stderr"]
IntervalMethod = Literal["profile", "bootstrap", "wald", "none"]

_DELTA, _DRAWS = 1e-3, 1000


@dataclass(frozen=True)
class FitOptions:
    """Options of a fit that do not depend on the table.

    Attributes:
        loss: "gaussian" (least squares on the means of the cells), or "huber" on every row.
        delta: Huber's threshold, on the scale of the residuals; default 1e-3.
        over: Huber's loss only: the weight of a prediction above the metric.
        residual: "raw" (default with gaussian) or "log" (default with huber, as Hoffmann et al. 2022).
        weights: "stderr" weighs each row by the inverse square of the metric's standard error.
        fixed: parameters to hold, as reported: E (a known Bayes loss), exponents, amplitudes.
        interval: "profile" (default with gaussian), "bootstrap" by cell (default with huber), "wald"
            or "none".
        n_draws: bootstrap resamples, default 1000; if given, the intervals are bootstrap intervals.
        seed: of the bootstrap.
        level: of the intervals.

    Raises:
        UserError: a value is not valid, or two values contradict each other.
    """

    loss: Loss = "gaussian"
    delta: float | None = None
    over: float = 1.0
    residual: Residual | None = None
    weights: Weights = "none"
    fixed: Mapping[str, float] = field(default_factory=dict)
    interval: IntervalMethod | None = None
    n_draws: int | None = None
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        _check_choice("loss", self.loss, get_args(Loss))
        _check_choice("residual", self.residual, get_args(Residual))
        _check_choice("weights", self.weights, get_args(Weights))
        _check_choice("interval", self.interval, get_args(IntervalMethod))
        self._check_loss()
        self._check_interval()

    def _check_loss(self) -> None:
        if self.delta is not None:
            if self.loss != "huber":
                raise UserError(f"delta is {self.delta:g}, but only the huber loss has a delta")
            if not 0 < self.delta < np.inf:
                raise UserError(f"delta is {self.delta:g}, expected a positive number")
        if self.over != 1 and (self.loss != "huber" or not 0 < self.over < np.inf):
            raise UserError(
                f"over is {self.over:g}, but it needs the huber loss and a positive weight"
            )

    def _check_interval(self) -> None:
        if self.n_draws is not None:
            if self.interval not in (None, "bootstrap"):
                raise UserError(
                    f"interval {self.interval} contradicts a bootstrap of {self.n_draws} resamples; "
                    "leave one of them out"
                )
            if self.n_draws < 2:
                raise UserError(f"n_draws is {self.n_draws}, expected 2 or more")
        if self.interval in ("profile", "wald") and self.loss == "huber":
            raise UserError(f"interval {self.interval} needs the gaussian loss; use bootstrap")
        if self.seed < 0:
            raise UserError(f"seed is {self.seed}, expected 0 or more")
        if not 0 < self.level < 1:
            raise UserError(f"level is {self.level:g}, expected a number between 0 and 1")

    @property
    def threshold(self) -> float | None:
        """Huber's delta; None for the gaussian loss."""
        if self.loss != "huber":
            return None
        return _DELTA if self.delta is None else self.delta

    @property
    def residual_scale(self) -> Residual:
        """`residual`, or the default of the loss."""
        return self.residual or ("log" if self.loss == "huber" else "raw")

    @property
    def interval_method(self) -> IntervalMethod:
        """`interval`, or the default that follows from `n_draws` and the loss."""
        if self.interval is not None:
            return self.interval
        return "profile" if self.loss == "gaussian" and self.n_draws is None else "bootstrap"

    @property
    def resamples(self) -> int:
        """Bootstrap resamples; 0 if the intervals need none."""
        return (self.n_draws or _DRAWS) if self.interval_method == "bootstrap" else 0


def _check_choice(name: str, value: str | None, valid: tuple[str, ...]) -> None:
    if value is not None and value not in valid:
        raise UserError(f"{name} {value}: no such choice{nearest(value, valid)}")
