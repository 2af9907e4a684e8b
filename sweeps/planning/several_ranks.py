"""Cells that several processes train together: what they cannot do, how long they take, and what each of them holds."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from models.input_schema import InputSchema
from models.kinds import takes_batch_statistics
from scaling.errors import UserError
from scaling.study import RunConfig

if TYPE_CHECKING:
    from sweeps.planning.cost_estimate import Estimate

__all__ = ["check_memory", "check_ranks", "on_ranks", "shares_table", "speed_up", "steps_in_parts"]


# What each of several ranks does of the work that it would do alone: they exchange gradients, and wait for the slowest.
_EFFICIENCY = 0.85


def speed_up(n_ranks: int) -> float:
    """Return how many times as fast as one process `n_ranks` are expected to train a cell."""
    return 1.0 if n_ranks == 1 else _EFFICIENCY * n_ranks


def on_ranks(alone: Estimate, n_ranks: int, divided_bytes: int = 0) -> Estimate:
    """Return the estimate of a cell on several ranks from that of one process.

    Each has the same memory, less what the others hold of `divided_bytes`.
    """
    factor = speed_up(n_ranks)
    saved = divided_bytes * (1 - 1 / n_ranks) / 2**30
    return replace(
        alone,
        seconds=alone.seconds / factor,
        evaluation_seconds=alone.evaluation_seconds / factor,
        memory_gib=alone.memory_gib - saved,
    )


def shares_table(
    config: RunConfig, schema: InputSchema, n_ranks: int, device_memory_gib: float | None
) -> bool:
    """Whether the ranks of a cell divide its feature table; without `[run] device_memory_gib` the job decides."""
    if n_ranks == 1 or device_memory_gib is None:
        return False
    return config.held_size(schema).is_sharded(device_memory_gib * 2**30)


def steps_in_parts(
    config: RunConfig, schema: InputSchema, n_ranks: int, device_memory_gib: float
) -> tuple[int, bool]:
    """Return in how many parts a GPU trains each step of a cell, and whether blocks are computed again.

    The job looks at the memory that is really free, so that this is what to expect, not what must be.
    """
    size, room = config.held_size(schema), device_memory_gib * 2**30
    divided = n_ranks if shares_table(config, schema, n_ranks, device_memory_gib) else 1
    use = config.memory_use(schema, room - size.bytes_on(divided))
    return use.n_parts(math.ceil(config.batch_size / n_ranks), config.max_len), use.recomputes


def check_memory(
    config: RunConfig, schema: InputSchema, n_ranks: int, device_memory_gib: float | None
) -> None:
    """Refuse a cell that does not fit the memory of its devices, as far as that is known.

    Raises:
        UserError: parameters, gradients and moments take more; says how many devices would hold them.
    """
    if device_memory_gib is None:
        return
    size, room = config.held_size(schema), device_memory_gib * 2**30
    divided = n_ranks if shares_table(config, schema, n_ranks, device_memory_gib) else 1
    if (needed := size.bytes_on(divided)) <= room:
        return
    dense = size.bytes_on(1) - size.table_bytes
    advice = "raise device_memory_gib, if the devices have more"
    if dense < room:
        enough = math.ceil(size.table_bytes / (room - dense))
        advice = f"{enough} devices (nodes and gpus, or tasks_per_node, in [slurm.grades.{config.grade_name}]) would hold them"
    raise UserError(
        f"run: {config.label} needs {needed / 2**30:.3g} GiB on each of its {n_ranks} devices for parameters, gradients and "
        f"moments, more than device_memory_gib = {device_memory_gib:g}; {advice}"
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
    alone = [config, config.teacher_alone]
    if any(takes_batch_statistics(one.grade, one.model, schema) for one in alone if one):
        raise UserError(
            f"{where} a layer takes statistics over the batch (DIN's Dice, or a batch norm of its own), "
            f"and each rank sees a share of it; {advice} so that there is one"
        )
