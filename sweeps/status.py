"""How far a study is, in one line or a table; from files alone, so it works after the driver is gone."""

from collections import Counter

from scaling.records import RunStore
from sweeps.plan import Plan, axis_values

__all__ = ["progress_line", "status_rows"]


def progress_line(plan: Plan, runs: RunStore) -> str:
    """Return e.g. `12/24 cells done, 1 failed | SUAN-2 D=65536 s0 43% loss 0.4817 3.2k samples/s`."""
    states = {cell.config.signature: runs.state(cell.config.signature) for cell in plan.cells}
    counts = Counter(state.state for state in states.values())
    parts = [f"{counts['done']}/{len(plan.cells)} cells done"]
    parts += [f"{counts[name]} {name}" for name in ("failed", "lost") if counts[name]]
    line = ", ".join(parts)
    running = []
    for cell in plan.cells:
        state = states[cell.config.signature]
        if state.state == "running":
            text = cell.config.label
            if state.n_steps:
                text += f" {100 * state.step // state.n_steps}%"
            if state.loss is not None and state.samples_per_second is not None:
                text += f" loss {state.loss:.4f} {state.samples_per_second / 1000:.1f}k samples/s"
            running.append(text)
    return " | ".join([line, *running])


def status_rows(plan: Plan) -> list[dict[str, object]]:
    """One flat document per cell: labels, state, step, speed, age of the last heartbeat, message."""
    return [
        {
            "signature": cell.config.signature if plan.data.fingerprint else None,
            "grade": cell.config.grade_name,
            "n_samples": cell.config.n_samples,
            "seed": cell.config.seed,
            **axis_values(plan.study, cell.config),
            "state": cell.state.state,
            "step": cell.state.step,
            "n_steps": cell.state.n_steps,
            "loss": cell.state.loss,
            "samples_per_second": cell.state.samples_per_second,
            "heartbeat_seconds": cell.state.heartbeat_seconds,
            "message": cell.state.message,
        }
        for cell in plan.cells
    ]
