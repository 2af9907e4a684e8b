"""The plan: every cell of a study with its size, its cost and where it stands; strictly read-only."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from models.accounting import ModelSize, model_size
from scaling.config import RunConfig, StudyConfig
from scaling.dataset import DataFacts
from scaling.records import RunRecord, RunState, RunStore
from sweeps.grid import grid_cells

__all__ = ["Plan", "PlannedCell", "axis_values", "make_plan"]

# What one CPU core of 2020 does on these models, until a finished run of the study says better:
# FLOP per second of large steps, seconds that a step costs whatever its size, seconds per job.
_GUESSED_FLOPS_PER_SECOND = 2.0e10
_GUESSED_STEP_SECONDS = 0.006
_JOB_SECONDS = 2.0
# forward only, and nothing kept for the backward pass
_EVALUATION_SPEEDUP = 3.0


@dataclass(frozen=True)
class PlannedCell:
    """A cell: what it is, what it costs and where it stands.

    `seconds` is the estimate on one core or device; `measured` tells whether it rests on a finished
    run of the same grade on the same data.
    """

    config: RunConfig
    size: ModelSize
    state: RunState
    seconds: float
    measured: bool

    @property
    def flops(self) -> int:
        """Training FLOPs."""
        return self.size.training_flops(self.config.n_samples)


@dataclass(frozen=True)
class Plan:
    """All cells of a study, in the grid's order."""

    study: StudyConfig
    data: DataFacts
    cells: tuple[PlannedCell, ...]

    def with_state(self, *states: str) -> tuple[PlannedCell, ...]:
        """The cells in one of these states."""
        return tuple(cell for cell in self.cells if cell.state.state in states)

    @property
    def seconds(self) -> float:
        """Estimated seconds of one core or device for what is not done."""
        return sum(cell.seconds for cell in self.cells if cell.state.state != "done")

    def rows(self) -> list[dict[str, Any]]:
        """One flat document per cell, for tables and JSON."""
        return [
            {
                "signature": cell.config.signature if self.data.fingerprint else None,
                "grade": cell.config.grade_name,
                "n_samples": cell.config.n_samples,
                "seed": cell.config.seed,
                **axis_values(self.study, cell.config),
                "n_params": cell.size.n_params,
                "n_embedding_params": cell.size.n_embedding_params,
                "flops_per_sample": cell.size.flops_per_sample,
                "flops": cell.flops,
                "batch_size": cell.config.batch_size,
                "learning_rate": cell.config.learning_rate,
                "estimated_seconds": cell.seconds,
                "estimate": "measured" if cell.measured else "guess",
                "state": cell.state.state,
                "message": cell.state.message,
            }
            for cell in self.cells
        ]


def axis_values(study: StudyConfig, config: RunConfig) -> dict[str, Any]:
    """The cell's place on the study's further axes, e.g. `{"model.norm": "rms"}`."""
    document = asdict(config)
    values = {**document, **{f"model.{name}": value for name, value in document["model"].items()}}
    return {axis: values[axis.removeprefix("train.")] for axis in study.grid.axes}


def make_plan(study: StudyConfig, data: DataFacts, runs: RunStore) -> Plan:
    """Lay out a study against the runs that are there.

    Raises:
        UserError: the grid does not fit the data, or a record is damaged.
    """
    records = runs.read_all() if runs.root.is_dir() else []
    cells = []
    for config in grid_cells(study, data):
        size = model_size(config.grade, config.model, data.schema)
        state = runs.state(config.signature) if data.fingerprint else RunState("missing")
        seconds, measured = _estimate(config, size, data, records)
        cells.append(PlannedCell(config, size, state, seconds, measured))
    return Plan(study, data, tuple(cells))


def _estimate(
    config: RunConfig, size: ModelSize, data: DataFacts, records: Sequence[RunRecord]
) -> tuple[float, bool]:
    """Seconds of training and evaluation, from the closest finished run of the grade or by a guess."""
    n_steps = math.ceil(config.n_samples / config.batch_size)
    overhead = _GUESSED_STEP_SECONDS * n_steps
    alike = [
        record
        for record in records
        if record.config.grade == config.grade
        and record.config.model == config.model
        and record.config.packing == config.packing
        and record.config.data_fingerprint == config.data_fingerprint
    ]
    if alike:
        closest = min(alike, key=lambda r: abs(math.log(r.config.n_samples / config.n_samples)))
        rate = closest.samples_per_second
        train, evaluate = config.n_samples / rate, data.n_test / (rate * _EVALUATION_SPEEDUP)
        return train + evaluate + _JOB_SECONDS, True
    flops = size.training_flops(config.n_samples) + size.flops_per_sample * data.n_test
    return flops / _GUESSED_FLOPS_PER_SECOND + overhead + _JOB_SECONDS, False
