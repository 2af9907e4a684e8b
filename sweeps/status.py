"""The progress of a study: a row per cell, and totals. Read from files, so it works after the driver has ended."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scaling.records import RunState, RunStore
from sweeps.planning import Plan
from sweeps.time_to_go import seconds_to_go, time_to_go

__all__ = ["RunningCell", "SweepProgress", "progress_of", "status_rows", "status_totals"]


@dataclass(frozen=True)
class RunningCell:
    """How far a running cell is, by its last heartbeat.

    Attributes:
        signature: of its run.
        label: name of the cell, e.g. `SUAN-2 D=65536 s0`.
        step: finished optimiser steps.
        n_steps: all steps; 0 until the cell has reported them.
        loss: mean training loss of the latest steps, or None.
        samples_per_second: speed of the latest steps, or None.
    """

    signature: str
    label: str
    step: int
    n_steps: int
    loss: float | None
    samples_per_second: float | None

    def speed(self) -> str:
        """Return e.g. `loss 0.4817 3.2k samples/s`, or nothing while both are unknown."""
        if self.loss is None or self.samples_per_second is None:
            return ""
        return f"loss {self.loss:.4f} {self.samples_per_second / 1000:.1f}k samples/s"

    def line(self) -> str:
        """Return e.g. `SUAN-2 D=65536 s0 43% loss 0.4817 3.2k samples/s`."""
        share = f"{100 * self.step // self.n_steps}%" if self.n_steps else ""
        return " ".join(part for part in (self.label, share, self.speed()) if part)


@dataclass(frozen=True)
class SweepProgress:
    """How far a study is, read from the files of its cells.

    Attributes:
        n_cells: all cells of the study.
        n_done: cells that are done.
        n_failed: cells that failed.
        n_lost: cells whose process has disappeared.
        running: one entry for each training that runs; cells that share a training have one entry.
        states: the state of each cell, by its signature.
    """

    n_cells: int
    n_done: int
    n_failed: int
    n_lost: int
    running: tuple[RunningCell, ...]
    states: Mapping[str, RunState] = field(default_factory=dict)

    def counts(self) -> str:
        """Return e.g. `12/24 cells done, 1 failed`."""
        parts = [f"{self.n_done}/{self.n_cells} cells done"]
        parts += [
            f"{n} {name}" for n, name in ((self.n_failed, "failed"), (self.n_lost, "lost")) if n
        ]
        return ", ".join(parts)

    def line(self) -> str:
        """Return e.g. `12/24 cells done, 1 failed | SUAN-2 D=65536 s0 43% loss 0.4817 3.2k samples/s`."""
        return " | ".join([self.counts(), *(cell.line() for cell in self.running)])


def progress_of(plan: Plan, runs: RunStore) -> SweepProgress:
    """Read how far the cells are; asks no scheduler."""
    states = {cell.config.signature: plan.state_now(cell, runs) for cell in plan.cells}
    counts = Counter(state.state for state in states.values())
    running = tuple(
        RunningCell(
            cell.config.signature,
            cell.config.label,
            state.step,
            state.n_steps,
            state.loss,
            state.samples_per_second,
        )
        for cell in plan.cells
        if (state := states[cell.config.signature]).state == "running"
        and state.cell in (None, cell.config.signature)
    )
    return SweepProgress(
        len(plan.cells), counts["done"], counts["failed"], counts["lost"], running, states
    )


def status_rows(plan: Plan) -> list[dict[str, Any]]:
    """Return one flat document per cell: labels, state, step, speed, metrics, remaining time, reason.

    `loss` is the training loss so far; `logloss` and `auc` of the test part are None until the cell is done.
    Ages and durations are in seconds.
    """
    return [
        {
            "signature": cell.config.signature if plan.data.fingerprint else None,
            "grade": cell.config.grade_name,
            "n_samples": cell.config.n_samples,
            "seed": cell.config.seed,
            **plan.axis_values(cell.config),
            "state": cell.standing,
            "step": cell.state.step,
            "n_steps": cell.state.n_steps or cell.config.n_steps,
            "loss": cell.state.loss,
            "samples_per_second": cell.state.samples_per_second,
            "heartbeat_seconds": cell.state.heartbeat_seconds,
            "attempt": cell.state.attempt,
            "eta_seconds": seconds_to_go(cell),
            "spent_seconds": cell.spent_seconds,
            "job": None if cell.job is None else cell.job.job_id,
            **{name: cell.metrics.get(name) for name in ("logloss", "auc")},
            "failure": cell.failure,
            "message": cell.message,
            "why": cell.why,
        }
        for cell in plan.cells
    ]


def status_totals(plan: Plan) -> dict[str, Any]:
    """Return counts by state, device-hours spent and to do, and the time until the sweep ends.

    `eta_seconds` is that of the running and queued cells, `all_cells_eta_seconds` that of all which the next submit would run,
    too; None while no cell runs. See `sweeps.time_to_go`.
    """
    to_go = time_to_go(plan)
    return {
        "n_cells": len(plan.cells),
        "states": dict(Counter(cell.standing for cell in plan.cells)),
        "gpu_hours_spent": plan.spent_seconds / 3600,
        "gpu_hours_to_do": plan.seconds / 3600,
        "eta_seconds": to_go.under_way,
        "all_cells_eta_seconds": to_go.all_cells,
        "eta_unknown": to_go.unknown,
        "n_at_once": to_go.n_at_once,
        "pace": to_go.pace,
        "queue": plan.silence or "known",
    }
