"""Cells that several processes train together: what they cannot do, and how long they take."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from models.input_schema import InputSchema
from models.kinds import takes_batch_statistics
from scaling.errors import UserError
from scaling.study import RunConfig

if TYPE_CHECKING:
    from sweeps.planning.cost_estimate import Estimate

__all__ = ["check_ranks", "on_ranks", "speed_up"]


# What each of several ranks does of the work that it would do alone: they exchange gradients, and wait for the slowest.
_EFFICIENCY = 0.85


def speed_up(n_ranks: int) -> float:
    """Return how many times as fast as one process `n_ranks` are expected to train a cell."""
    return 1.0 if n_ranks == 1 else _EFFICIENCY * n_ranks


def on_ranks(alone: Estimate, n_ranks: int) -> Estimate:
    """Return the estimate of a cell on several ranks from that of one process; each has the same memory."""
    factor = speed_up(n_ranks)
    return replace(
        alone,
        seconds=alone.seconds / factor,
        evaluation_seconds=alone.evaluation_seconds / factor,
    )


def check_ranks(config: RunConfig, schema: InputSchema, n_ranks: int) -> None:
    """Refuse more devices than a cell can use.

    Raises:
        UserError: some ranks would have no impressions, or the run would end with other numbers than on one.
    """
    if n_ranks == 1:
        return
    where = (
        f"slurm: {config.label} would be trained on {n_ranks} ranks (nodes x tasks per node), but"
    )
    advice = f"set nodes, gpus and tasks_per_node in [slurm.grades.{config.grade_name}]"
    if n_ranks > config.batch_size:
        raise UserError(
            f"{where} its batch has {config.batch_size} impressions, so some would have none; {advice}"
        )
    if takes_batch_statistics(config.grade, config.model, schema):
        raise UserError(
            f"{where} a layer takes statistics over the batch (numeric features, DIN's Dice, or a batch norm of its own), "
            f"and each rank sees a share of it; {advice} so that there is one"
        )
