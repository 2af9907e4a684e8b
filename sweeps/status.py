"""How far a study is: a line, a row per cell, totals; the files tell most, so it works after the driver is gone."""

import math
from collections import Counter
from typing import Any

from scaling.records import RunStore
from sweeps.planning import Plan, PlannedCell

__all__ = ["progress_line", "status_rows", "status_totals"]


def progress_line(plan: Plan, runs: RunStore) -> str:
    """Return e.g. `12/24 cells done, 1 failed | SUAN-2 D=65536 s0 43% loss 0.4817 3.2k samples/s`."""
    states = {cell.config.signature: plan.state_now(cell, runs) for cell in plan.cells}
    counts = Counter(state.state for state in states.values())
    parts = [f"{counts['done']}/{len(plan.cells)} cells done"]
    parts += [f"{counts[name]} {name}" for name in ("failed", "lost") if counts[name]]
    line = ", ".join(parts)
    running = []
    for cell in plan.cells:
        state = states[cell.config.signature]
        if state.state == "running" and state.cell in (None, cell.config.signature):
            text = cell.config.label
            if state.n_steps:
                text += f" {100 * state.step // state.n_steps}%"
            if state.loss is not None and state.samples_per_second is not None:
                text += f" loss {state.loss:.4f} {state.samples_per_second / 1000:.1f}k samples/s"
            running.append(text)
    return " | ".join([line, *running])


def status_rows(plan: Plan) -> list[dict[str, Any]]:
    """One flat document per cell: labels, state, step, speed, age of the heartbeat, metrics, seconds to go, reason.

    `logloss` and `auc` are the test part's and there at the end; `loss` is the training's, so far.
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
            "n_steps": cell.state.n_steps
            or math.ceil(cell.config.n_samples / cell.config.batch_size),
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


def seconds_to_go(cell: PlannedCell) -> float | None:
    """What a running cell still needs, from its own speed where it has told one; None if it does not run."""
    state = cell.state
    if state.state != "running":
        return None
    if not state.n_steps:
        return cell.seconds
    left = 1.0 - state.step / state.n_steps
    if state.samples_per_second:
        return left * cell.config.n_samples / state.samples_per_second
    return left * cell.seconds


def status_totals(plan: Plan) -> dict[str, Any]:
    """Counts by state, device-hours spent and to do, and when the sweep may be through.

    `eta_seconds` shares the rest among the cells that run now; None while none does.
    """
    counts = Counter(cell.standing for cell in plan.cells)
    rest, longest = 0.0, 0.0
    for cell in plan.cells:
        to_go = seconds_to_go(cell)
        if to_go is not None:
            rest, longest = rest + to_go, max(longest, to_go)
        elif cell.standing == "queued":
            rest += cell.seconds + plan.start_seconds
            longest = max(longest, cell.seconds + plan.start_seconds)
    running = counts["running"]
    return {
        "n_cells": len(plan.cells),
        "states": dict(counts),
        "gpu_hours_spent": plan.spent_seconds / 3600,
        "gpu_hours_to_do": plan.seconds / 3600,
        "eta_seconds": max(rest / running, longest) if running else None,
        "queue": plan.silence or "known",
    }
