"""Verbs that look at a study before anything is spent: `scaling plan | benchmark`."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scaling.cli.options import AsJson, Budget, Output, Overrides, Runs, Study
from scaling.cli.output import counted, emit, format_duration, format_hours, format_table, runs_root
from scaling.errors import UserError

if TYPE_CHECKING:
    from scaling.records import RunStore
    from scaling.study import StudyConfig
    from sweeps.planning import Plan
    from sweeps.queue import QueuedTask, SilentSchedulerError

__all__ = ["add_verbs", "load_plan", "load_study_and_store", "tell_budget", "warn_of"]


logger = logging.getLogger(__name__)

_PLAN_COLUMNS = {
    "signature": "cell",
    "grade": "grade",
    "n_samples": "n_samples",
    "seed": "seed",
    "n_params": "n_params",
    "n_embedding_params": "embedding",
    "flops": "flops",
    "batch_size": "batch",
    "estimated_seconds": "seconds",
    "estimated_gpu_hours": "gpu_hours",
    "estimated_memory_gib": "gib",
    "estimate": "estimate",
    "state": "state",
    "why": "why",
}
STANDINGS = ("done", "running", "queued", "failed", "lost", "preempted", "changed", "missing")


def add_verbs(app: typer.Typer) -> None:
    """Register the verbs on the command `scaling`."""
    for verb in (plan, benchmark):
        app.command(verb.__name__)(verb)


def load_study_and_store(
    study: Path, overrides: list[str] | None, runs: Path | None
) -> tuple[StudyConfig, RunStore]:
    """Read the study and name the folder of its runs.

    Raises:
        UserError: the study is bad.
    """
    from scaling.records import RunStore
    from scaling.study import load_study

    config = load_study(study, overrides or ())
    return config, RunStore(runs_root(runs) / config.name)


def load_plan(
    study: Path,
    overrides: list[str] | None,
    runs: Path | None,
    *,
    make_data: bool = False,
    tasks: Sequence[QueuedTask] | SilentSchedulerError | None = None,
) -> tuple[Plan, RunStore]:
    """Read the study and lay it out against its runs and its queued jobs; `tasks` is the queue, if asked already.

    With `make_data`, have the data there and checked.

    Raises:
        UserError: the study, its data or a record is bad; told before any data are generated.
    """
    from scaling.study import data_facts, ensure_data
    from sweeps.queue import survey

    config, store = load_study_and_store(study, overrides, runs)
    try:
        made = survey(config, data_facts(config.data), store, tasks)
        if make_data:
            ensure_data(config.data)
            if made.data.fingerprint is None:
                made = survey(config, data_facts(config.data), store, tasks)
    except UserError as error:
        if str(error).startswith(("grid", "data.", "distill.")):  # a key of the study: say of which
            raise UserError(f"{study}: {error}") from error
        raise
    return made, store


def warn_of(made: Plan) -> None:
    """Tell what is doubtful about a plan; said where it is laid out or begun, not at every look at it."""
    from sweeps.planning import warn_of_teachers

    warn_of_teachers(made.study, [cell.config for cell in made.cells], made.data)


def plan(
    study: Study,
    overrides: Overrides = None,
    runs: Runs = None,
    budget: Budget = None,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Print every cell with its size, cost, state and why it will run or not; writes nothing.

    Times come from finished runs of the grade, else from `scaling benchmark`, else from FLOPs (a guess).

    Example: scaling plan studies/quickstart.toml --budget-gpu-hours 2
    """
    made, _ = load_plan(study, overrides, runs)
    warn_of(made)
    totals = {
        "n_cells": len(made.cells),
        "states": dict(Counter(cell.standing for cell in made.cells)),
        "flops_to_do": sum(cell.flops for cell in made.cells if cell.state.state != "done"),
        "gpu_hours_spent": made.spent_seconds / 3600,
        "gpu_hours_to_do": made.seconds / 3600,
        "budget_gpu_hours": budget,
        "n_samples": sum(cell.config.n_samples for cell in made.cells),
        "n_samples_trained": made.n_trained,
    }
    text = "" if as_json else _plan_text(made, budget)
    document = {"study": made.study.name, "cells": made.rows() if as_json else [], "totals": totals}
    emit(text, document, as_json=as_json, output=output)
    if budget is not None and made.spent_seconds + made.seconds > 3600 * budget:
        raise typer.Exit(1)


def benchmark(
    study: Annotated[
        Path | None,
        typer.Argument(metavar="[STUDY]", help="A study: its grades, options and data."),
    ] = None,
    grade: Annotated[
        list[str] | None,
        typer.Option("--grade", help="Only this grade; repeatable. Without STUDY: of the ladder."),
    ] = None,
    overrides: Overrides = None,
    runs: Runs = None,
    steps: Annotated[int, typer.Option(min=3, help="Steps to time, per grade and size.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Time a few steps of each grade on this device and store its throughput for `scaling plan`.

    Run it where the cells will run, e.g. in an interactive job on a GPU node. Without a study the data are
    small generated logs. The file is RUNS/benchmark.json.

    Example: scaling benchmark studies/quickstart.toml --grade SUAN-3
    """
    from dataclasses import asdict

    from sweeps.planning.benchmark import benchmark_grades

    if study is None and not grade:
        raise UserError("benchmark: name a study, or grades of the ladder with --grade")
    config = None if study is None else load_study_and_store(study, overrides, runs)[0]
    measured = benchmark_grades(config, grade, runs_root(runs), n_steps=steps)
    rows = [
        {
            "grade": name,
            "device": one.device,
            "packing": one.packing,
            "ms_per_step": 1e3 * one.step_seconds,
            "us_per_sample": 1e6 * one.sample_seconds,
            "evaluation_us": 1e6 * one.evaluation_sample_seconds,
            "start_seconds": one.start_seconds,
            "peak_gib": one.peak_memory_gib,
        }
        for name, one in measured
    ]
    text = format_table(list(rows[0]), [list(row.values()) for row in rows])
    emit(text, [{"name": name, **asdict(one)} for name, one in measured], as_json=as_json)


def tell_budget(made: Plan, seconds: float, budget: float | None) -> None:
    """Refuse to exceed the budget with `seconds` more than what is spent.

    Raises:
        UserError: it would be exceeded.
    """
    if budget is None:
        return
    spent, planned = made.spent_seconds / 3600, seconds / 3600
    if spent + planned > budget:
        raise UserError(
            f"--budget-gpu-hours {budget:g}: {format_hours(spent)} spent and {format_hours(planned)} estimated make "
            f"{format_hours(spent + planned)} GPU-hours; submit fewer cells with --limit or --only, or raise the budget"
        )


def _plan_text(made: Plan, budget: float | None) -> str:
    from sweeps.planning import guess_text

    columns = dict(_PLAN_COLUMNS)
    columns |= {axis: axis for axis in made.study.grid.axes}
    documents = made.rows()
    if all(row["why"] in ("", "will run") for row in documents):
        del columns["why"]
    rows = [[_short(key, row[key]) for key in columns] for row in documents]
    counts = Counter(cell.standing for cell in made.cells)
    told = ", ".join(f"{counts[standing]} {standing}" for standing in STANDINGS if counts[standing])
    flops = sum(cell.flops for cell in made.cells if cell.state.state != "done")
    on_gpu = made.study.slurm.gpus > 0
    lines = [
        format_table(list(columns.values()), rows),
        "",
        f"{counted(len(made.cells), 'cell')}: {told}",
        f"to do: {flops:.2e} training FLOPs, about {format_duration(made.seconds)} of one core or GPU "
        f"({format_hours(made.seconds / 3600)} GPU-hours), {made.start_seconds:.0f} s of each for its start",
        f"spent: {format_hours(made.spent_seconds / 3600)} GPU-hours",
    ]
    guessed = sum(1 for c in made.cells if c.source == "guess" and c.state.state != "done")
    if guessed:
        lines.append(
            f"guessed at {guess_text(on_gpu)}: {counted(guessed, 'time')}; `scaling benchmark` measures them"
        )
    if made.study.train.share_prefix:
        alone = sum(cell.config.n_samples for cell in made.cells)
        lines.append(
            f"share_prefix: {made.n_trained:,} impressions are trained on instead of {alone:,} "
            f"({1 - made.n_trained / alone:.0%} saved)"
        )
    if budget is not None:
        total = (made.spent_seconds + made.seconds) / 3600
        verdict = "exceeded" if total > budget else "kept"
        lines.append(
            f"budget: {budget:g} GPU-hours {verdict}, the whole study takes {format_hours(total)}"
        )
    late = [
        c
        for c in made.cells
        if 2 * c.config.warmup_steps * c.config.batch_size > c.config.n_samples
    ]
    if late and made.study.train.recipe_n_samples is not None:
        lines.append(
            f"warning: warm up for over half of their steps: {counted(len(late), 'cell')}; "
            "lower train.recipe_n_samples"
        )
    if made.removed:
        lines.append(f"no more in the grid: {counted(len(made.removed), 'run')}")
    if made.silence:
        lines.append(f"queue not known: {made.silence}")
    if made.data.fingerprint is None:
        lines.append(f"{made.data.path} will be generated first")
    return "\n".join(lines)


def _short(key: str, value: object) -> object:
    return value[:8] if key == "signature" and isinstance(value, str) else value
